"""release.py: what the repository says it releases, and, of a tiny release, everything that it makes."""

import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

import release
from tests.conftest import TINY_RECIPE
from tests.layouts import make_rows, write_mmsa
from training.grid import expand

RELEASES = release.read_releases(release.RELEASES, None)
CHECKPOINTS = [
    f"{variant.recipe('--data_file', one['data_file']).model_type.replace('_', '-')}-{name}"
    for name, one in RELEASES.items()
    for variant in expand([release.ROOT / one["grid"]], [], one["corpus"])
]


def test_every_release_has_all_five_systems():
    for name in RELEASES:
        found = {checkpoint for checkpoint in CHECKPOINTS if checkpoint.endswith(f"-{name}")}
        assert found == {f"{system}-{name}" for system in ("self-mm", "sugrm", "mmlatch", "ucrn", "delta-attention")}


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_released_cards_are_here_and_whole(checkpoint):
    folder = release.CARDS / checkpoint
    card = ModelCard.load(folder / release.CARD_FILE)
    assert card.data.model_name == checkpoint and {one.metric_type for one in card.data.eval_results} >= {"mae", "corr"}
    pictures = re.findall(r"^!\[[^]]+\]\((\S+)\)$", card.content, re.MULTILINE)
    assert pictures and sorted(path.name for path in folder.iterdir()) == sorted([release.CARD_FILE, *pictures])
    index = (release.CARDS / release.CARD_FILE).read_text(encoding="utf-8")
    assert f"[{checkpoint}]({checkpoint}/{release.CARD_FILE})" in index
    recipe = yaml.safe_load(card.content.partition("```yaml\n")[2].partition("```")[0])
    assert recipe["model_type"].replace("_", "-") == checkpoint.removesuffix(f"-{'-'.join(checkpoint.split('-')[-2:])}")
    assert "/" not in recipe["data_file"] and "Without a modality, and with noise" in card.content
    assert re.search(r"about \S+ kWh", card.content)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[one]", "must map names of releases"),
        ("one: {grid: a.yaml, corpus: mosi, data_file: a.pkl, noise: []}", "one must say its seeds"),
        ("one: {grid: a.yaml, corpus: mosi, data_file: a.pkl, noise: [], seed: 3}", "seed"),
    ],
)
def test_files_of_releases_are_checked(content, message, tmp_path):
    (tmp_path / "releases.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        release.read_releases(tmp_path / "releases.yaml", None)


def test_unknown_releases_and_missing_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mosi-text"):
        release.main(["--data", str(tmp_path), "--only", "mosi-txt"])
    with pytest.raises(FileNotFoundError, match=r"has no text_timing_50\.pkl, which mosi-text is trained on"):
        release.main(["--data", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_release_from_beginning_to_end(tmp_path, capsys):
    recipe = {name: value for name, value in TINY_RECIPE.items() if name != "synthetic"}
    recipe["model"] = {name: value for name, value in recipe["model"].items() if name != "text_config"}
    (tmp_path / "tiny_mosi.yaml").write_text(yaml.safe_dump(recipe))
    write_mmsa(make_rows(), tmp_path)
    (data,) = tmp_path.glob("*.pkl")
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"recipe": "tiny_mosi.yaml", "variants": {"Self-MM": {}}}))
    tiny = {"grid": str(tmp_path / "grid.yaml"), "corpus": "mosi", "data_file": data.name, "seeds": 2, "noise": [0.5]}
    (tmp_path / "releases.yaml").write_text(yaml.safe_dump({"tiny": tiny}))
    arguments = ["--data", str(tmp_path), "--releases", str(tmp_path / "releases.yaml")]
    arguments += ["--output_dir", str(tmp_path / "out"), "--cards", str(tmp_path / "cards"), "--organisation", "org"]
    assert release.main(arguments) == 0
    published, card = tmp_path / "out" / "published" / "self-mm-tiny", tmp_path / "cards" / "self-mm-tiny" / "README.md"
    assert (published / "README.md").read_bytes() == card.read_bytes()
    text = card.read_text()
    for expected in ("org/self-mm-tiny", "test, 2 seeds", "noise 0.5", "(generated_labels.png)"):
        assert expected in text
    assert "[self-mm-tiny](self-mm-tiny/README.md)" in (tmp_path / "cards" / "README.md").read_text()
    first = {file.name: file.read_bytes() for file in published.iterdir()}
    assert release.main(arguments) == 0  # nothing is trained again, and what follows is the same
    assert "2 of them finished" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in published.iterdir()} == first
    assert not list(Path(tmp_path / "cards").glob(".*"))
