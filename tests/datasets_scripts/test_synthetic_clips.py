"""Synthetic clips: that they are what their description says, as files and in what they show."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from datasets_scripts import load_dataset  # noqa: E402
from datasets_scripts.synthetic_clips import SyntheticClips, write_synthetic_clips  # noqa: E402
from datasets_scripts.synthetic_clips import clips as clips_module  # noqa: E402
from datasets_scripts.synthetic_clips.faces import Pose, draw_face, draw_look  # noqa: E402
from datasets_scripts.synthetic_clips.voices import Voice, speak, syllables  # noqa: E402
from training.recipe import Recipe, load_yaml  # noqa: E402

ROOT = Path(__file__).parents[2]
ADJECTIVES = {
    **{"dreadful": -3.0, "awful": -2.6, "poor": -2.0, "boring": -1.6, "weak": -1.2, "uneven": -0.6, "ordinary": 0.0},
    **{"usual": 0.0, "decent": 0.6, "fresh": 1.2, "pleasant": 1.6, "good": 2.0, "great": 2.6, "superb": 3.0},
}
VOICE = Voice(pitch=150.0, formant_scale=1.0, rate=5.0, hoarseness=0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clips"
    write_synthetic_clips(path, clips=6, seed=3)
    return path


@pytest.fixture(scope="module")
def table(folder):
    with open(folder / "label.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def described():
    return list(SyntheticClips(clips=24, seed=5))


class TestFiles:
    def test_it_is_a_folder_that_the_readers_know(self, folder, table):
        rows = load_dataset(str(folder))
        assert {split: len(rows[split]) for split in rows} == {"train": 2, "valid": 2, "test": 2}
        by_id = {f"{row['video_id']}$_${row['clip_id']}": row for row in table}
        for split in rows:
            for row in rows[split]:
                written = by_id[row["id"]]
                assert row["text"] == written["text"]
                for ours, theirs in (
                    ("label", ""),
                    ("text_label", "_T"),
                    ("audio_label", "_A"),
                    ("vision_label", "_V"),
                ):
                    assert row[ours] == pytest.approx(float(written[f"label{theirs}"]))

    def test_each_row_has_its_video(self, folder, table):
        for row in table:
            path = folder / "Raw" / row["video_id"] / f"{row['clip_id']}.mp4"
            with av.open(str(path)) as container:
                video, audio = container.streams.video[0], container.streams.audio[0]
                assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
                assert (video.width, video.height, video.average_rate, audio.rate) == (160, 120, 15, 16000)
                seconds = container.duration / av.time_base
                assert 1.4 < seconds < 3.6
                assert sum(1 for _ in container.decode(video=0)) == pytest.approx(seconds * 15, abs=2)
            assert path.stat().st_size < 60_000

    def test_nothing_else_is_left(self, folder):
        assert sorted(path.name for path in folder.iterdir()) == ["Raw", "label.csv"]
        assert sum(1 for path in folder.rglob("*.mp4")) == 6
        assert [path.name for path in folder.parent.iterdir()] == ["clips"]

    def test_the_same_seed_gives_the_same_bytes(self, folder, tmp_path):
        write_synthetic_clips(tmp_path / "again", clips=6, seed=3)
        for path in folder.rglob("*.*"):
            assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(ValueError, match="must not exist yet, or be empty"):
            write_synthetic_clips(tmp_path, clips=3)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_folder_is_whole_or_not_there(self, tmp_path, monkeypatch):
        written = []

        def fail_at_the_second(*arguments):
            written.append(arguments)
            if len(written) == 2:
                raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(clips_module, "write_mp4", fail_at_the_second)
            with pytest.raises(OSError, match="disk full"):
                write_synthetic_clips(tmp_path / "clips", clips=3)
        assert not (tmp_path / "clips").exists()
        (tmp_path / "clips").mkdir()
        write_synthetic_clips(tmp_path / "clips", clips=3)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clips"]

    def test_without_pyav(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(ImportError, match="needs PyAV .*pip install av"):
            write_synthetic_clips(tmp_path / "clips", clips=3)

    def test_the_program(self, tmp_path):
        def run(*arguments):
            command = [sys.executable, "-m", "datasets_scripts.synthetic_clips", *arguments]
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

        done = run(str(tmp_path / "clips"), "--clips", "3", "--seed", "1")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"3 clips of 3 speakers are in {tmp_path / 'clips'}.\n"
        refused = run(str(tmp_path / "clips"))
        assert refused.returncode == 2 and "must not exist yet" in refused.stderr and "Traceback" not in refused.stderr


class TestDescription:
    @pytest.mark.parametrize(
        "wrong",
        [{"clips": 2}, {"clips": 3.5}, {"disagreement": 1.5}, {"label_noise": -1}, {"label_noise": float("nan")}],
    )
    def test_wrong_arguments(self, wrong):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must"):
            SyntheticClips(**wrong)

    def test_the_label_is_the_weighted_mean(self, described):
        for clip in described:
            row = clip.row
            assert row["label"] == pytest.approx(0.5 * row["label_T"] + 0.25 * row["label_A"] + 0.25 * row["label_V"])
            assert row["annotation"] == {1: "Positive", 0: "Neutral", -1: "Negative"}[int(np.sign(row["label"]))]
            assert all(-3 <= row[name] <= 3 for name in ("label", "label_T", "label_A", "label_V"))

    def test_the_text_says_its_label(self, described):
        for clip in described:
            said = [ADJECTIVES[word] for word in clip.row["text"].split() if word in ADJECTIVES]
            assert said and clip.row["label_T"] == pytest.approx(np.mean(said))
            assert not {"not", "slightly"} & set(clip.row["text"].split())

    def test_speakers_are_in_one_split_alone(self, described):
        splits = {}
        for clip in described:
            splits.setdefault(clip.row["video_id"], set()).add(clip.row["mode"])
        assert all(len(modes) == 1 for modes in splits.values())
        counts = [sum(modes == {mode} for modes in splits.values()) for mode in ("train", "valid", "test")]
        assert counts == [3, 1, 1]

    def test_modalities_know_what_others_do_not(self):
        rows = [clip.row for clip in SyntheticClips(clips=60, disagreement=0.5)]
        labels = np.array([[row[name] for name in ("label_T", "label_A", "label_V")] for row in rows])
        correlations = np.corrcoef(labels.T)[np.triu_indices(3, 1)]
        assert (correlations > 0.05).all() and (correlations < 0.6).all()
        agreeing = [clip.row for clip in SyntheticClips(clips=10, disagreement=0, label_noise=0)]
        assert all(row["label_A"] == row["label_V"] for row in agreeing)


def band(sound, low, high):
    """Energy between two frequencies, in hertz."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequency = np.fft.rfftfreq(len(sound), 1 / 16000)
    return power[(low <= frequency) & (frequency < high)].sum()


def pitches(speech):
    """Hertz in each twentieth of a second that is voiced, by autocorrelation."""
    found = []
    for start in range(0, len(speech.sound) - 800, 800):
        if speech.opening[start : start + 800].min() > 0.4:
            piece = speech.sound[start : start + 800].astype(float)
            correlation = np.correlate(piece, piece, "full")[799:]
            lag = 40 + int(np.argmax(correlation[40:230]))  # 70 to 400 Hz
            found.append(16000 / lag)
    return np.array(found)


class TestVoices:
    @pytest.mark.parametrize(
        ("text", "vowels"), [("the music was good", "euiao"), ("hm", "e"), ("Anyway, a story", "ayaaoy"), ("", "")]
    )
    def test_syllables(self, text, vowels):
        assert "".join(syllables(text)) == vowels

    def test_sentiment_is_heard(self):
        text = "the music was good and the plot felt pleasant"
        sad, glad = (speak(text, VOICE, sentiment, np.random.default_rng(0)) for sentiment in (-1.0, 1.0))
        assert np.median(pitches(glad)) > 1.15 * np.median(pitches(sad))
        assert np.std(np.log2(pitches(glad))) > 1.3 * np.std(np.log2(pitches(sad)))
        loud, soft = (np.sqrt(np.mean(speech.sound**2)) for speech in (glad, sad))
        assert 6 < 20 * np.log10(loud / soft) < 12
        bright = [band(s.sound, 1500, 4500) / band(s.sound, 60, 1500) for s in (glad, sad)]
        assert bright[0] > 2 * bright[1]

    def test_the_pitch_is_the_speakers(self):
        found = [
            np.median(
                pitches(speak("the camera was fresh", Voice(pitch, 1.0, 5.0, 0.02), 0.0, np.random.default_rng(1)))
            )
            for pitch in (110.0, 200.0)
        ]
        assert found[1] / found[0] == pytest.approx(200 / 110, rel=0.1)

    def test_it_sounds_where_the_mouth_is_open(self):
        speech = speak("the script is decent", VOICE, 0.5, np.random.default_rng(2))
        assert len(speech.sound) == len(speech.opening) and np.abs(speech.sound).max() <= 1
        assert speech.opening.min() == 0 and 0.6 < speech.opening.max() <= 1
        level = lambda where: np.sqrt(np.mean(speech.sound[where] ** 2))  # noqa: E731
        assert level(speech.opening > 0.5) > 5 * level(speech.opening < 0.01)


@pytest.fixture(scope="module")
def look():
    return draw_look(np.random.default_rng(4))


class TestFaces:
    def test_a_picture(self, look):
        picture = draw_face(look, Pose(), 160, 120)
        assert picture.shape == (120, 160, 3) and picture.dtype == np.uint8
        assert picture.std() > 20

    @pytest.mark.parametrize("change", [{"sentiment": 1.0}, {"sentiment": -1.0}, {"opening": 1.0}, {"lids": 1.0}])
    def test_what_changes_is_on_the_face(self, look, change):
        difference = np.abs(draw_face(look, Pose(), 160, 120).astype(int) - draw_face(look, Pose(**change), 160, 120))
        assert difference.max() > 60
        assert difference[:20].max() == 0 and difference[:, :40].max() == 0 and difference[:, 120:].max() == 0

    def test_a_pleased_mouth_has_its_corners_up(self, look):
        def darkest_row(sentiment, columns):
            lower = draw_face(look, Pose(sentiment=sentiment), 160, 120)[72:92, columns].astype(int).sum(axis=(1, 2))
            return int(np.argmin(lower))

        middle, corner = slice(78, 82), slice(70, 73)
        assert darkest_row(1.0, corner) < darkest_row(1.0, middle)
        assert darkest_row(-1.0, corner) > darkest_row(-1.0, middle)

    def test_the_mouth_opens_with_the_voice(self, described):
        for clip in described[:5]:
            openings = np.array([pose.opening for pose in clip.poses])
            loudness = [np.sqrt(np.mean(part**2)) for part in np.array_split(clip.speech.sound, len(openings))]
            assert np.corrcoef(openings, loudness)[0, 1] > 0.5

    def test_faces_are_found(self, described):
        cv2 = pytest.importorskip("cv2")
        detectors = [
            cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_{kind}.xml")
            for kind in ("default", "alt2")
        ]
        pictures = [frame for clip in described for frame in list(clip.frames())[::12]]
        for detector in detectors:
            found = [detector.detectMultiScale(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), 1.1, 4) for p in pictures]
            assert np.mean([len(boxes) == 1 for boxes in found]) > 0.95


@pytest.mark.slow
def test_features_tell_the_labels_of_speakers_that_were_not_heard(tmp_path):
    """Ridge regression on the means and deviations of each extractor's features, fitted on other speakers."""
    for package in ("opensmile", "cv2"):
        pytest.importorskip(package)
    from processing.feature_extraction_audio import AUDIO_EXTRACTORS
    from processing.feature_extraction_vision import VISION_EXTRACTORS
    from processing.media_reading import open_media

    rows = write_synthetic_clips(tmp_path / "clips", clips=60, seed=0)
    media = [open_media(tmp_path / "clips" / "Raw" / row["video_id"] / f"{row['clip_id']}.mp4") for row in rows]
    speakers = np.array([row["video_id"] for row in rows])
    for label, extractor in (
        ("label_A", AUDIO_EXTRACTORS["egemaps_v02"]()),
        ("label_V", VISION_EXTRACTORS["face_appearance"]()),
    ):
        values = [extractor.extract(each).values for each in media]
        features = np.array([np.r_[each.mean(axis=0), each.std(axis=0)] for each in values])
        labels = np.array([row[label] for row in rows])
        predicted, trivial = np.empty(len(rows)), np.empty(len(rows))
        for fold in range(6):
            held_out = np.isin(speakers, np.unique(speakers)[fold::6])
            known = features[~held_out]
            mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
            x = (known - mean) / deviation
            y = labels[~held_out] - labels[~held_out].mean()
            weights = np.linalg.solve(x.T @ x + 30 * np.eye(x.shape[1]), x.T @ y)
            predicted[held_out] = (features[held_out] - mean) / deviation @ weights + labels[~held_out].mean()
            trivial[held_out] = np.median(labels[~held_out])
        assert np.abs(predicted - labels).mean() < 0.6 * np.abs(trivial - labels).mean(), label


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "media").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_clips_are_recipes(path):
    recipe = Recipe.from_dict({**load_yaml(path), "data_file": "clips"})
    assert recipe.normalize == ["audio", "vision"] and recipe.model_type == path.stem


@pytest.mark.slow
@pytest.mark.parametrize("name", ["self_mm", "mmlatch"])
def test_a_model_of_clips_is_far_better_than_the_median(name, tmp_path):
    for package in ("opensmile", "cv2"):
        pytest.importorskip(package)
    import extract
    import train

    rows = write_synthetic_clips(tmp_path / "clips", clips=120, seed=0)
    extract.main([str(tmp_path / "clips"), "--output", str(tmp_path / "features")])
    recipe = str(ROOT / "recipes" / "media" / f"{name}.yaml")
    arguments = ["--data_file", str(tmp_path / "features"), "--output_dir", str(tmp_path / "run"), "--use_cpu", "true"]
    results = train.main([recipe, *arguments])
    labels = {mode: np.array([row["label"] for row in rows if row["mode"] == mode]) for mode in ("train", "test")}
    assert results["test_mae"] < 0.7 * np.abs(labels["test"] - np.median(labels["train"])).mean()
