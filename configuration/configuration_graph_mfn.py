"""Graph-MFN's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class GraphMfnConfig(MultimodalConfig):
    r"""
    Configuration of [`GraphMfnModel`]: "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable
    Dynamic Fusion Graph" (Zadeh, Liang, Poria, Cambria and Morency, ACL 2018).

    The paper gives no sizes: the defaults are those that MMSA found for CMU-MOSI. A `*_size` and the `*_dropout` of the
    same name are of the hidden layer of a network of two layers.

    Args:
        text_hidden_size (`int`, *optional*, defaults to 256):
            Width of the text's LSTM, and of its vertex.
        audio_hidden_size (`int`, *optional*, defaults to 32):
            Width of the audio's.
        vision_hidden_size (`int`, *optional*, defaults to 256):
            Width of the vision's.
        node_size (`int`, *optional*, defaults to 64):
            Width of the graph's other vertices and of its output.
        graph_hidden_size (`int`, *optional*, defaults to 100):
            Width between the two layers of the graph's networks (code).
        memory_size (`int`, *optional*, defaults to 300):
            Width of the multi-view gated memory.
        proposal_size, proposal_dropout (*optional*, default to 32 and 0.0):
            Of what proposes an update of the memory, D_u.
        retain_size, retain_dropout (*optional*, default to 128 and 0.5):
            Of the gate that retains the memory, D_gamma1.
        update_size, update_dropout (*optional*, default to 64 and 0.5):
            Of the gate that lets the update in, D_gamma2.
        output_size, output_dropout (*optional*, default to 256 and 0.0):
            Of the prediction.
    """

    model_type = "graph_mfn"
    display_name = "Graph-MFN"
    citation = (
        'Zadeh, Liang, Poria, Cambria and Morency, "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and '
        'Interpretable Dynamic Fusion Graph", ACL 2018 ([P18-1208](https://aclanthology.org/P18-1208/))'
    )

    text_hidden_size: int = 256
    audio_hidden_size: int = 32
    vision_hidden_size: int = 256
    node_size: int = 64
    graph_hidden_size: int = 100
    memory_size: int = 300
    proposal_size: int = 32
    proposal_dropout: float | int = 0.0
    retain_size: int = 128
    retain_dropout: float | int = 0.5
    update_size: int = 64
    update_dropout: float | int = 0.5
    output_size: int = 256
    output_dropout: float | int = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes()
