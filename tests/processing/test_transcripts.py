"""Transcripts: words and their times from text, text files and subtitles, as they are found."""

import pytest

from processing.transcripts import Transcript, Word, plain_transcript, read_transcript, split_words

SRT = """1
00:00:01,000 --> 00:00:02,000
Hello there.

2
00:00:02,500 --> 00:00:04,500
Good <i>film</i>
"""


@pytest.fixture
def file(tmp_path):
    """Writes a file of text, or of bytes, and says where it is."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def times(transcript):
    return [
        (word.text, pytest.approx(word.start, abs=1e-6), pytest.approx(word.end, abs=1e-6)) for word in transcript.words
    ]


def words(transcript):
    return [word.text for word in transcript.words]


class TestText:
    def test_words_share_the_clip_by_their_characters(self):
        transcript = read_transcript("a film that", seconds=9.0)
        assert transcript.timing == "spread"
        assert times(transcript) == [("a", 0.0, 1.0), ("film", 1.0, 5.0), ("that", 5.0, 9.0)]

    def test_without_a_length_words_have_no_times(self):
        transcript = read_transcript("a film")
        assert [(word.start, word.end, word.middle) for word in transcript.words] == [(None, None, None)] * 2
        assert not transcript.timed
        with pytest.raises(ValueError, match="no times.*`seconds`"):
            transcript.between(0, 1)

    @pytest.mark.parametrize("text", ["Well,  it was\tgood - wasn't it?", "one\ntwo", "我喜欢 this 电影。"])
    def test_the_text_is_kept(self, text):
        assert plain_transcript(text).text == text

    def test_spaces_around_it_are_not(self):
        assert plain_transcript("  a b \n").text == "a b"

    def test_windows_cover_every_word_once(self):
        transcript = plain_transcript("the plot was slightly weak and the camera is good", seconds=7.3)
        parts = [transcript.between(start, start + 1.0) for start in range(8)]
        assert " ".join(part for part in parts if part) == transcript.text

    def test_a_word_belongs_to_where_its_middle_is(self):
        transcript = Transcript((Word("one", 0.0, 1.0), Word("two", 1.0, 3.0)))
        assert transcript.between(0.5, 2.0) == "one"
        assert transcript.between(0.6, 2.1) == "two"
        assert transcript.clipped(1.0, 9.0) == Transcript((Word("two", 1.0, 3.0),))

    def test_shifted(self):
        assert Transcript((Word("one", 0.5, 1.0), Word("two"))).shifted(2.0).words == (
            Word("one", 2.5, 3.0),
            Word("two"),
        )

    def test_nothing_said(self):
        assert Transcript().text == "" and Transcript().timed and Transcript().between(0, 5) == ""

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_a_text_without_words_is_refused(self, text):
        with pytest.raises(ValueError, match="without words; leave it out"):
            read_transcript(text)

    @pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_length_that_is_none_is_refused(self, seconds):
        with pytest.raises(ValueError, match="`seconds` must be"):
            read_transcript("a", seconds)


class TestWordsWithoutSpaces:
    def test_chinese_characters_are_words(self):
        assert [word.text for word in split_words("我喜欢，「真的」！")] == ["我", "喜", "欢，", "「真", "的」！"]

    def test_with_other_scripts_between(self):
        found = split_words("看了Titanic两次 very 好")
        assert [word.text for word in found] == ["看", "了", "Titanic", "两", "次", "very", "好"]
        assert [word.before for word in found] == ["", "", "", "", "", " ", " "]

    def test_marks_stay_with_their_letter(self):
        assert [word.text for word in split_words("ที่นี่")] == ["ที่", "นี่"]

    def test_japanese_and_korean(self):
        assert [word.text for word in split_words("すごいカメラ")] == list("すごいカメラ")
        assert [word.text for word in split_words("영화가 좋다")] == ["영화가", "좋다"]

    def test_windows(self):
        assert plain_transcript("我喜欢这部电影", seconds=7.0).between(2.0, 5.0) == "欢这部"

    @pytest.mark.parametrize("text", ["well-made", "AT&T", "3.5", "e.g.", "(laughs)", "don't", "--", "„gut“"])
    def test_others_are_whole(self, text):
        assert [word.text for word in split_words(text)] == [text]


class TestPaths:
    def test_text_files(self, file):
        transcript = read_transcript(file("a.TXT", "\ufeffa film\n"), seconds=5.0)
        assert times(transcript) == [("a", 0.0, 1.0), ("film", 1.0, 5.0)]
        assert read_transcript(str(file("b.txt", "über".encode("utf-16")))).text == "über"

    @pytest.mark.parametrize(
        "text", ["clip.srt", "my clip.VTT", "/some/where", "./clip", "C:\\clips\\a", "~/clip", "transcript.json"]
    )
    def test_a_string_like_a_path_is_not_read_as_text(self, text):
        with pytest.raises(FileNotFoundError, match="looks like a file's path, but does not exist"):
            read_transcript(text)

    @pytest.mark.parametrize(
        "text", ["and/or", "Wow...great", "I said: / no", "~ 5 films", "It is 3.5", "clip.srt\nyes"]
    )
    def test_other_strings_are(self, text):
        assert read_transcript(text).text == text

    def test_a_long_text_that_ends_like_a_file_is_refused_in_words(self):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            read_transcript("word " * 500 + "notes.txt")

    def test_a_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="is a folder"):
            read_transcript(tmp_path)

    def test_other_files(self, file):
        with pytest.raises(ValueError, match=r"\.txt, \.srt, \.vtt file; got .*a\.json"):
            read_transcript(file("a.json", "{}"))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b" \r\n", "is empty"),
            (b"caf\xe9", r"not UTF-8 text: byte 3 cannot be decoded .* Save it as UTF-8"),
            (b"\xff\xfea\x00b", "not UTF-16 text"),
            (b"a\x00b", "zero character"),
        ],
    )
    @pytest.mark.parametrize("name", ["a.txt", "a.srt", "a.vtt"])
    def test_what_is_not_text(self, file, name, content, message):
        with pytest.raises(ValueError, match=message):
            read_transcript(file(name, content))

    def test_a_large_file(self, file, monkeypatch):
        monkeypatch.setattr("processing.transcripts.MAX_BYTES", 10)
        with pytest.raises(ValueError, match="has 11 bytes; at most 10"):
            read_transcript(file("a.txt", "a" * 11))


class TestSubRip:
    def test_words_share_their_cue(self, file):
        transcript = read_transcript(file("a.srt", SRT))
        assert transcript.timing == "cues" and transcript.notes == ()
        # "Hello" has 5 of 11 characters of the second, "Good" 4 of 8 of two seconds.
        assert times(transcript) == [
            ("Hello", 1.0, 1 + 5 / 11),
            ("there.", 1 + 5 / 11, 2.0),
            ("Good", 2.5, 3.5),
            ("film", 3.5, 4.5),
        ]
        assert transcript.text == "Hello there. Good film"

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: "\ufeff" + text,
            lambda text: text.replace("\n", "\r\n"),
            lambda text: text.replace("\n", "\r"),
            lambda text: text.replace(",", "."),
            lambda text: text.replace("1\n00", "00").replace("2\n00", "00"),
            lambda text: text.replace(".\n\n", ".\n"),
            lambda text: text.replace("\n\n", "\n\n\n \n"),
            lambda text: text.replace("00:00:0", "0:0:"),
            lambda text: text.replace("02,000", "02,000  X1:100 Y1:20"),
            lambda text: text.replace("Hello", "<font color='#fff'>Hello</font>").replace("Good", "{\\an8}Good"),
            lambda text: text.replace("Hello there.", "Hello\nthere."),
            lambda text: text.replace("Hello there.", "Hello\n\nthere."),
        ],
    )
    def test_as_it_is_found(self, file, change):
        transcript = read_transcript(file("a.srt", change(SRT)))
        assert times(transcript) == times(read_transcript(file("b.srt", SRT)))
        assert " ".join(transcript.text.split()) == "Hello there. Good film"

    def test_numbers_and_signs_that_are_text_stay(self, file):
        content = "1\n00:00:00,000 --> 00:00:01,000\n2 < 3 & {so} on --> x\n42\n\n2\n00:00:01,000 --> 00:00:02,000\n7"
        assert read_transcript(file("a.srt", content)).text == "2 < 3 & {so} on --> x 42 7"

    def test_hours_and_no_fraction(self, file):
        transcript = read_transcript(file("a.srt", "1\n01:02:03 --> 1:02:04,5\nyes"))
        assert times(transcript) == [("yes", 3723.0, 3724.5)]
        assert transcript.timing == "words"

    def test_out_of_order_and_overlapping(self, file):
        content = "1\n00:00:02,000 --> 00:00:04,000\nsecond\n\n2\n00:00:01,000 --> 00:00:03,000\nfirst"
        transcript = read_transcript(file("a.srt", content))
        assert transcript.text == "first second"
        assert transcript.notes == ("Some subtitles overlap in time; their words stand one subtitle after the other.",)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("00:00:01,000 -> 00:00:02,000", "Line 2 .* should have times"),
            ("00:00:01,000 --> ", "Line 2 .* should have times"),
            ("-00:00:01,000 --> 00:00:02,000", "Line 2 .* should have times"),
            ("00:61:01,000 --> 00:62:02,000", "Line 2 .* more than 59 minutes"),
            ("00:00:03,000 --> 00:00:02,000", "Line 2 .* ends before it starts"),
        ],
    )
    def test_malformed_times(self, file, line, message):
        with pytest.raises(ValueError, match=message):
            read_transcript(file("a.srt", f"1\n{line}\nyes"))

    @pytest.mark.parametrize(
        "content", ["only text", "1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:03,000 --> 00:00:04,000"]
    )
    def test_without_subtitles(self, file, content):
        with pytest.raises(ValueError, match="no subtitle with text"):
            read_transcript(file("a.srt", content))

    def test_lines_before_the_first_are_noted(self, file):
        transcript = read_transcript(file("a.srt", "by somebody\nof somewhere\n\n" + SRT))
        assert transcript.text == "Hello there. Good film"
        assert transcript.notes == ("2 lines of the subtitles have no time and are left out.",)


class TestLength:
    def test_subtitles_after_the_end_are_noted(self, file):
        transcript = read_transcript(file("a.srt", SRT), seconds=2.2)
        assert transcript.text == "Hello there."
        assert transcript.notes == ("1 of 2 subtitles start after the end of the clip and are left out.",)

    def test_a_subtitle_that_ends_after_it_is_cut(self, file):
        transcript = read_transcript(file("a.srt", SRT), seconds=3.5)
        assert times(transcript)[2:] == [("Good", 2.5, 3.0), ("film", 3.0, 3.5)]
        assert transcript.notes == ("1 subtitles end after the clip; their words are taken to be said before its end.",)
        assert transcript.between(0, 3.5) == transcript.text

    def test_a_little_later_is_usual(self, file):
        assert read_transcript(file("a.srt", SRT), seconds=4.3).notes == ()

    def test_of_another_clip(self, file):
        with pytest.raises(ValueError, match=r"start at 1\.00 s, after the end of the clip \(0\.50 s\).* another clip"):
            read_transcript(file("a.srt", SRT), seconds=0.5)

    def test_words_of_times_after_the_end_stay_within(self, file):
        content = "WEBVTT\n\n00:01.000 --> 00:09.000\none <00:02.000>two <00:05.000>three"
        transcript = read_transcript(file("a.vtt", content), seconds=3.0)
        assert transcript.between(0.0, 3.0) == "one two three"


class TestWebVTT:
    def test_blocks_settings_tags_and_entities(self, file):
        content = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE
00:05.000 is when it starts

intro
00:01.000 --> 00:03.000 position:10% align:start
<v Bob><c.loud>Hello</c>, you &amp; <lang de>ich</lang></v>

01:00:03.000 --> 01:00:04.000
- yes
- &lt;no&gt;
"""
        transcript = read_transcript(file("a.vtt", content))
        assert transcript.text == "Hello, you & ich - yes - <no>"
        assert transcript.notes == ()
        assert transcript.words[0].start == 1.0 and transcript.words[-1].end == 3604.0

    def test_times_of_words(self, file):
        content = "WEBVTT\n\n00:01.000 --> 00:04.000\nit <00:01.500><c>was</c> <00:00:02.000>go<00:03.000>od"
        transcript = read_transcript(file("a.vtt", content))
        assert transcript.timing == "words"
        assert times(transcript) == [("it", 1.0, 1.5), ("was", 1.5, 2.0), ("go", 2.0, 3.0), ("od", 3.0, 4.0)]
        assert transcript.text == "it was good"

    def test_times_of_some_words_alone(self, file):
        content = "WEBVTT\n\n00:01.000 --> 00:03.000\nit was <00:02.000>good"
        transcript = read_transcript(file("a.vtt", content))
        assert transcript.timing == "cues"
        assert times(transcript) == [("it", 1.0, 1.4), ("was", 1.4, 2.0), ("good", 2.0, 3.0)]

    @pytest.mark.parametrize("time", ["00:00.500", "00:04.000", "00:00:00.000"])
    def test_times_outside_of_the_cue(self, file, time):
        with pytest.raises(ValueError, match=f"line 3 .* <{time}>, which is not between"):
            read_transcript(file("a.vtt", f"WEBVTT\n\n00:01.000 --> 00:03.000\nit <{time}>was"))

    def test_captions_that_roll_count_once(self, file):
        content = """WEBVTT

00:00.000 --> 00:02.000
so<00:00.500><c> this</c>

00:02.000 --> 00:02.010
so this

00:02.010 --> 00:04.000
so this
was<00:03.000><c> fine</c>
"""
        transcript = read_transcript(file("a.vtt", content))
        assert transcript.text == "so this was fine"
        assert times(transcript)[2:] == [("was", 2.01, 3.0), ("fine", 3.0, 4.0)]
        assert transcript.notes == ("2 lines are shown again above the next one, and count once.",)

    def test_what_is_said_twice_counts_twice(self, file):
        content = "WEBVTT\n\n00:00.000 --> 00:01.000\nNo.\n\n00:01.000 --> 00:02.000\nNo."
        assert read_transcript(file("a.vtt", content)).text == "No. No."

    def test_no_blank_line_after_the_header(self, file):
        assert read_transcript(file("a.vtt", "WEBVTT\r\n00:00.000 --> 00:01.000\r\nyes")).text == "yes"

    def test_lines_after_a_blank_one_are_noted(self, file):
        transcript = read_transcript(file("a.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nyes\n\nindeed"))
        assert transcript.text == "yes"
        assert transcript.notes == ("1 lines of the subtitles have no time and are left out.",)

    def test_without_its_first_line(self, file):
        with pytest.raises(ValueError, match="do not start with the line WEBVTT.*line 1 is '1'"):
            read_transcript(file("a.vtt", SRT))

    def test_malformed_times(self, file):
        with pytest.raises(ValueError, match="Line 3 .* should have times"):
            read_transcript(file("a.vtt", "WEBVTT\n\n00:00:00.000.1 --> 00:01.000\nyes"))


def test_chinese_subtitles(file):
    content = "1\n00:00:00,000 --> 00:00:02,000\n我喜欢\n\n2\n00:00:02,000 --> 00:00:04,000\n电影。"
    transcript = read_transcript(file("a.srt", content))
    assert words(transcript) == ["我", "喜", "欢", "电", "影。"]
    assert transcript.between(1.0, 3.0) == "喜欢 电"
