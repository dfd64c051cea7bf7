"""MFM: one factor that predicts the label, from MFN, and one per modality that is left to generate its features."""

import torch
from torch import nn

from configuration.configuration_mfm import MfmConfig
from modeling.alignment import word_aligned
from modeling.gated_memory import MemoryFusion, TwoLayers
from modeling.modality_sequence import ModalitySequence, reconstruction_error
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.recurrent import SequenceEncoder


class MfmModel(MultimodalPreTrainedModel):
    """
    MFM (Tsai, Liang, Zadeh, Morency and Salakhutdinov, ICLR 2019, arXiv:1806.06176, "Learning Factorized Multimodal
    Representations").

    Codes: z_y = W [h; u] + b of MFN's last state, from all modalities; z_m = W LSTM(x_m) + b of each modality. Factors:
    F_y = G_y(z_y), F_m = G_m(z_m), networks of two layers with a ReLU after both. The label is predicted from F_y, and
    each modality's features are generated from [F_y; F_m]. The loss is

        L = L(label) + sum_m w_m ||x_m - x^_m||^2 + w_mmd (MMD(z_y) + sum_m MMD(z_m))

    the squared error being the mean over features and valid steps of the samples that have the modality, and MMD the
    discrepancy between a batch's codes and the standard normal prior (see `prior_discrepancy`).

    The generative part is there for the loss alone: it is computed with labels, and the gradient of a reconstruction
    does not reach what is reconstructed, a text encoder's states. A modality that a sample lacks is read as in
    [`MfnModel`], and has no part in the loss. The modalities are brought to the steps of the text (see
    `modeling.alignment`).
    """

    config_class = MfmConfig

    def __init__(self, config: MfmConfig):
        super().__init__(config)
        inputs = self.build_inputs()
        self.fusion = MemoryFusion(inputs, config)
        self.code = nn.Linear(self.fusion.output_size, config.code_size)
        self.factor = _factor(config.code_size, config.factor_size, config.factor_dropout)
        outputs = len(config.output_names)
        self.output = TwoLayers(config.factor_size, config.factor_size, outputs, config.output_dropout)
        self.generators = nn.ModuleDict(
            {modality: _Generator(modality, size, config) for modality, size in inputs.items()}
        )
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        aligned = word_aligned(sequences)
        code = self.code(self.fusion(aligned))
        factor = self.factor(code)
        logits = self.output(factor)
        loss = None
        if labels is not None:
            loss = self.prediction_loss(logits, labels) + self._generative_loss(aligned, code, factor)
        return MultimodalOutput(loss=loss, logits=logits, fusion_state=factor)

    def _generative_loss(self, sequences, code, factor) -> torch.Tensor:
        everyone = torch.ones(len(code), dtype=torch.bool, device=code.device)
        discrepancy, error = prior_discrepancy(code, everyone), 0.0
        for modality, generator in self.generators.items():
            sequence = sequences[modality]
            own, generated = generator(sequence, factor)
            discrepancy = discrepancy + prior_discrepancy(own, sequence.present)
            weight = getattr(self.config, f"{modality}_reconstruction_weight")
            error = error + weight * reconstruction_error(generated, sequence)
        return error + self.config.mmd_weight * discrepancy


def prior_discrepancy(codes: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """
    The squared maximum mean discrepancy between codes z_1 ... z_n of d features and the standard normal distribution,
    for the kernel k(x, y) = exp(-||x - y||^2 / d^2) of the authors' code:

        1/n^2 sum_ij k(z_i, z_j) - 2/n sum_i E_y k(z_i, y) + E_yy' k(y, y')

    Both expectations over the prior are Gaussian integrals, with a = 1 / d^2:

        E_y k(z, y) = (1 + 2 a)^(-d/2) exp(-a ||z||^2 / (1 + 2 a)),  E_yy' k(y, y') = (1 + 4 a)^(-d/2)

    The code estimates them from one random sample per code; here the same batch always has the same loss.

    Args:
        codes (`torch.Tensor` of shape `(B, d)`): The codes.
        present (`torch.Tensor` of shape `(B,)`): False at rows that do not count. With none left the result is zero.
    """
    codes, size = codes.float(), codes.shape[-1]
    a = 1.0 / size**2
    weights = present.float() / present.sum().clamp(min=1)
    distances = (codes.unsqueeze(0) - codes.unsqueeze(1)).square().sum(dim=-1)
    among = weights @ torch.exp(-a * distances) @ weights
    to_prior = (1 + 2 * a) ** (-size / 2) * torch.exp(-a / (1 + 2 * a) * codes.square().sum(dim=-1))
    return (among - 2 * weights @ to_prior + (1 + 4 * a) ** (-size / 2)) * present.any()


class _Generator(nn.Module):
    """
    A modality's code and factor, and the LSTM that generates its features from both factors.

    The LSTM gets [F_y; F_m] at the first step and zeros after it. The authors' decoder gets its own last state there,
    which is the same network: W_ih h + W_hh h is one product with another matrix W_hh, so that no step waits for an
    input.
    """

    def __init__(self, modality: str, input_size: int, config: MfmConfig):
        super().__init__()
        code, factor = (getattr(config, f"{modality}_{name}") for name in ("code_size", "factor_size"))
        self.encoder = SequenceEncoder(input_size, code, code)
        self.factor = _factor(code, factor, getattr(config, f"{modality}_factor_dropout"))
        self.decoder = nn.LSTM(config.factor_size + factor, config.factor_size + factor, batch_first=True)
        self.output = nn.Linear(config.factor_size + factor, input_size)

    def forward(self, sequence: ModalitySequence, shared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From the modality and F_y (B, f) to its code z_m (B, z) and what is generated (B, T, d)."""
        code = self.encoder(sequence)
        start = torch.cat([shared, self.factor(code)], dim=-1)
        steps = nn.functional.pad(start.unsqueeze(1), (0, 0, 0, sequence.mask.shape[1] - 1))
        return code, self.output(self.decoder(steps)[0])


def _factor(code_size: int, factor_size: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(TwoLayers(code_size, factor_size, factor_size, dropout), nn.ReLU())
