"""What the configurations of Self-MM and SUGRM share: the tasks, the recalibration and the sequence encoder."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig

TASKS = ("M", "T", "A", "V")
SPT_SHIFTS = ("stride", "phase", "random")


@strict
class MultitaskConfig(MultimodalConfig):
    r"""
    Base of the configurations of architectures with a multimodal and unimodal tasks.

    Args:
        tasks (`list` of `str`, *optional*):
            Which tasks are trained (Self-MM, table 4; SUGRM, table 3): the multimodal one, which is always among them,
            and the unimodal ones, which are regressions of the sentiment. All four, ["M", "T", "A", "V"], unless
            `target` is another one than "sentiment": then it is the multimodal one alone. A modality that the corpus
            lacks has no task.
        recalibration (`bool`):
            Whether the features of each modality are first weighted by what all hold (SUGRM's MRM; its table 4).
        recalibration_reduction (`int`, *optional*, defaults to 4):
            The joint embedding in it is the sum of all feature sizes over this wide (authors' code; the paper does not
            say).
        sequence_encoder (`str`):
            What makes one vector of each sequence: "lstm" (one per modality), "spt" (the sparse phased transformer) or
            "transformer" (MulT's), which read the modalities together.
        hidden_size (`int`, *optional*, defaults to 32):
            Width inside "spt" and "transformer"; what comes out of the latter is that wide per other modality.
        num_hidden_layers (`int`, *optional*, defaults to 4):
            Repetitions of "spt", layers of "transformer".
        num_attention_heads (`int`, *optional*, defaults to 8):
            Must divide `hidden_size`.
        attention_dropout, relu_dropout, residual_dropout, embedding_dropout (`float`, *optional*, default to 0.3):
            In "spt" and "transformer" (SUGRM, table 7, for CMU-MOSI). The authors' code never passes the first one on:
            it trains with 0.
        spt_stride (`int`, *optional*, defaults to 5):
            Steps of the input per hidden slot.
        spt_radii (three `int`, *optional*, defaults to (8, 4, 3)):
            The windows of input, cross and self attention are 2 r + 1 wide.
        spt_input_shifts (`list` of `str`, *optional*, defaults to `["stride", "phase", "random"]`):
            How the windows of input attention move from repetition to repetition. SUGRM's code names all three, but by
            a slip none is applied: an empty list gives that.
    """

    tasks: list | tuple | None = None
    recalibration: bool = False
    recalibration_reduction: int = 4
    sequence_encoder: Literal["lstm", "spt", "transformer"] = "lstm"
    hidden_size: int = 32
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    attention_dropout: float | int = 0.3
    relu_dropout: float | int = 0.3
    residual_dropout: float | int = 0.3
    embedding_dropout: float | int = 0.3
    spt_stride: int = 5
    spt_radii: list | tuple = (8, 4, 3)
    spt_input_shifts: list | tuple = SPT_SHIFTS

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        tasks = TASKS if self.one_number else TASKS[:1]
        self.tasks = list(tasks if self.tasks is None else self.tasks)
        if "M" not in self.tasks or not _different_ones(self.tasks, TASKS):
            raise ValueError(
                f"`tasks` must be a list of different letters of M, T, A, V with M among them; got {self.tasks!r}."
            )
        if not self.one_number and self.tasks != ["M"]:
            raise ValueError(
                f"`tasks` T, A and V predict the sentiment of a modality, one number; with the target {self.target!r} "
                f"they must be left out; got {self.tasks!r}."
            )
        check_windows(self)
        self.check_sizes("recalibration_reduction", "num_hidden_layers", "num_attention_heads", "spt_stride")
        if self.sequence_encoder != "lstm":
            self.check_heads()

    @property
    def unimodal_tasks(self) -> tuple[str, ...]:
        """Modalities with a task of their own: in `tasks`, and present in the corpus."""
        return tuple(modality for modality in self.modalities if modality[0].upper() in (self.tasks or ()))


def check_windows(config) -> None:
    """
    Makes lists of `spt_radii` and `spt_input_shifts`, the windows of the sparse phased transformer.

    Raises:
        ValueError: for radii that are not three whole numbers, and for unknown shifts, or the same one twice.
    """
    config.spt_radii, config.spt_input_shifts = list(config.spt_radii), list(config.spt_input_shifts)
    if len(config.spt_radii) != 3 or not all(type(radius) is int and radius >= 0 for radius in config.spt_radii):
        raise ValueError(
            "`spt_radii` must be three whole numbers, at least 0, for input, cross and self attention; got "
            f"{config.spt_radii!r}."
        )
    if not _different_ones(config.spt_input_shifts, SPT_SHIFTS):
        raise ValueError(
            f"`spt_input_shifts` must be a list of different ones of {', '.join(SPT_SHIFTS)}; got "
            f"{config.spt_input_shifts!r}."
        )


def _different_ones(values: list, known: tuple[str, ...]) -> bool:
    return all(value in known and values.count(value) == 1 for value in values)
