"""The features that the published files of the corpora hold, and what their columns are.

Column names are those of the extractor, in the order of the files. Where each list was read is in `FeatureSet.source`.
A feature set whose columns were not published, or not without doubt, has none here.
"""

from __future__ import annotations

from dataclasses import dataclass

_SDK = "https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK"
_SDK_ISSUES = "https://github.com/A2Zadeh/CMU-MultimodalSDK/issues"
_MMSA = "https://github.com/thuiar/MMSA"
_SIMS_V2 = "https://github.com/thuiar/ch-sims-v2"
_OPENFACE_COLUMNS = "https://github.com/TadasBaltrusaitis/OpenFace/wiki/Output-Format"


@dataclass(frozen=True)
class FeatureSet:
    """Published features of one modality.

    Attributes:
        name: of the extractor, for people.
        modality: "text", "audio" or "vision".
        size: features per step.
        columns: what each feature is, in order; empty where that was not published.
        steps: how often there is one, for people ("100 per second"); empty where that is not known.
        source: who published it, for people, with an address where there is one.
    """

    name: str
    modality: str
    size: int
    columns: tuple[str, ...] = ()
    steps: str = ""
    source: str = ""


def _numbered(name: str, count: int) -> tuple[str, ...]:
    """`name_0` and so on."""
    return tuple(f"{name}_{number}" for number in range(count))


def _at(columns: tuple[str, ...], positions: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(columns[position] for position in positions)


BERT_ENGLISH = FeatureSet(
    name="BERT-base, English: last hidden states",
    modality="text",
    size=768,
    steps="one per word piece",
    source=f"MMSA, {_MMSA}",
)
BERT_CHINESE = FeatureSet(
    name="BERT-base, Chinese: last hidden states",
    modality="text",
    size=768,
    steps="one per word piece",
    source=f"MMSA, {_MMSA}",
)
GLOVE = FeatureSet(
    name="GloVe word vectors",
    modality="text",
    size=300,
    steps="one per word",
    source=f"CMU-MultimodalSDK, {_SDK}",
)

COVAREP = FeatureSet(
    name="COVAREP",
    modality="audio",
    size=74,
    columns=(
        *("F0", "VUV", "NAQ", "QOQ", "H1H2", "PSP", "MDQ", "peakSlope", "Rd", "Rd_conf", "creak"),
        *_numbered("MCEP", 25),
        *_numbered("HMPDM", 25),
        *_numbered("HMPDD", 13),
    ),
    steps="100 per second, or one per word in files that are aligned to words",
    source=f"CMU-MultimodalSDK; columns: {_SDK_ISSUES}/208",
)
COVAREP_SELECTED = FeatureSet(
    name="COVAREP, five selected features",
    modality="audio",
    size=5,
    columns=_at(COVAREP.columns, (1, 3, 6, 25, 60)),
    source=f"CMU-MultimodalSDK, also in MMSA and MulT; columns: {_SDK_ISSUES}/172, counted from 0",
)

_FACET_FEELINGS = (
    *("anger", "contempt", "disgust", "joy", "fear", "negative", "neutral", "positive", "sadness", "surprise"),
    *("confusion", "frustration"),
)
_FACET_41_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 18, 20, 23, 24, 25, 26, 28)
_FACET_41_COLUMNS = (
    *("Frametime", "Face X", "Face Y", "Face Width", "Face Height"),
    *(f"{feeling}Evidence" for feeling in _FACET_FEELINGS),
    *(f"{feeling}Intensity" for feeling in _FACET_FEELINGS),
    *(f"AU{unit}Evidence" for unit in _FACET_41_UNITS),
)
FACET_41 = FeatureSet(
    name="FACET 4.1",
    modality="vision",
    size=47,
    columns=_FACET_41_COLUMNS[1:],
    source=f"CMU-MultimodalSDK; columns: the list in {_SDK_ISSUES}/172 without its first entry, the time of the frame",
)
FACET_41_SELECTED = FeatureSet(
    name="FACET 4.1, twenty selected features",
    modality="vision",
    size=20,
    columns=_at(_FACET_41_COLUMNS, (0, 2, 5, 10, 11, 12, 14, 17, 20, 21, 22, 24, 25, 29, 30, 31, 32, 36, 37, 40)),
    source=(
        f"CMU-MultimodalSDK, also in MMSA and MulT; columns: {_SDK_ISSUES}/172, taken literally: counted from 0 in a "
        "list that begins with the time of the frame"
    ),
)
FACET_42 = FeatureSet(
    name="FACET 4.2",
    modality="vision",
    size=35,
    columns=(
        *("Anger", "Contempt", "Disgust", "Joy", "Fear", "Baseline", "Sadness", "Surprise", "Confusion"),
        "Frustration",
        *(f"AU{unit}" for unit in (*_FACET_41_UNITS, 43)),
        *("Has_Glasses", "Is_Male", "Pitch", "Yaw", "Roll"),
    ),
    steps="30 per second, or one per word in files that are aligned to words",
    source=f"CMU-MultimodalSDK; columns: {_SDK_ISSUES}/239",
)

_OPENFACE_GAZE = (
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    *("gaze_angle_x", "gaze_angle_y"),
    *(name for axis in "xyXYZ" for name in _numbered(f"eye_lmk_{axis}", 56)),
)
_OPENFACE_POSE = tuple(f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz")
_OPENFACE_LANDMARKS_2D = tuple(name for axis in "xy" for name in _numbered(axis, 68))
_OPENFACE_LANDMARKS_3D = tuple(name for axis in "XYZ" for name in _numbered(axis, 68))
_OPENFACE_SHAPE = ("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty", *_numbered("p", 34))
_OPENFACE_INTENSITIES = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
_OPENFACE_PRESENCES = (*_OPENFACE_INTENSITIES[:-1], 28, 45)
_OPENFACE_UNITS = (
    *(f"AU{unit:02}_r" for unit in _OPENFACE_INTENSITIES),
    *(f"AU{unit:02}_c" for unit in _OPENFACE_PRESENCES),
)
OPENFACE_FRAMES = FeatureSet(
    name="OpenFace 2: four columns on the frame, then gaze, head pose, 2D and 3D landmarks, face shape, action units",
    modality="vision",
    size=713,
    source=f"CMU-MultimodalSDK, {_SDK}; the metadata of the file names the columns",
)
OPENFACE = FeatureSet(
    name="OpenFace 2: gaze, head pose, 2D and 3D landmarks, face shape, action units",
    modality="vision",
    size=709,
    columns=(
        *_OPENFACE_GAZE,
        *_OPENFACE_POSE,
        *_OPENFACE_LANDMARKS_2D,
        *_OPENFACE_LANDMARKS_3D,
        *_OPENFACE_SHAPE,
        *_OPENFACE_UNITS,
    ),
    steps="6 per second, each the mean of five frames",
    source=f"MMSA, {_MMSA}: all that OpenFace writes after its first five columns; {_OPENFACE_COLUMNS}",
)
OPENFACE_SELECTED = FeatureSet(
    name="OpenFace 2: head pose, 2D landmarks, action units",
    modality="vision",
    size=177,
    columns=(*_OPENFACE_POSE, *_OPENFACE_LANDMARKS_2D, *_OPENFACE_UNITS),
    steps="25 per second",
    source=f"CH-SIMS v2.0, {_SIMS_V2}, extracted with MMSA-FET; columns: {_OPENFACE_COLUMNS}",
)

LIBROSA = FeatureSet(
    name="librosa: zero-crossing rate (called log F0 in the paper), MFCC, chroma CQT",
    modality="audio",
    size=33,
    columns=("zero_crossing_rate", *_numbered("mfcc", 20), *_numbered("chroma_cqt", 12)),
    steps="43 per second (512 samples of 22,050 per second)",
    source=f"MMSA, {_MMSA}; columns: its script getFeature.py",
)
EGEMAPS = FeatureSet(
    name="openSMILE eGeMAPSv02: low-level descriptors",
    modality="audio",
    size=25,
    columns=(
        *("Loudness_sma3", "alphaRatio_sma3", "hammarbergIndex_sma3", "slope0-500_sma3", "slope500-1500_sma3"),
        *("spectralFlux_sma3", "mfcc1_sma3", "mfcc2_sma3", "mfcc3_sma3", "mfcc4_sma3"),
        *("F0semitoneFrom27.5Hz_sma3nz", "jitterLocal_sma3nz", "shimmerLocaldB_sma3nz", "HNRdBACF_sma3nz"),
        *("logRelF0-H1-H2_sma3nz", "logRelF0-H1-A3_sma3nz"),
        *("F1frequency_sma3nz", "F1bandwidth_sma3nz", "F1amplitudeLogRelF0_sma3nz"),
        *("F2frequency_sma3nz", "F2bandwidth_sma3nz", "F2amplitudeLogRelF0_sma3nz"),
        *("F3frequency_sma3nz", "F3bandwidth_sma3nz", "F3amplitudeLogRelF0_sma3nz"),
    ),
    steps="100 per second",
    source=f"CH-SIMS v2.0, {_SIMS_V2}; columns: opensmile, https://pypi.org/project/opensmile",
)
