"""Small speech recognition models with random weights: what they write is nonsense, but always the same."""

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertConfig,
    BertModel,
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

WORDS = ("the", "plot", "was", "good", "weak", "film", "and", "music", "very", "slow")
LANGUAGES = {"<|en|>": "en", "<|de|>": "de", "<|zh|>": "zh"}


def save_whisper(folder, alignment=True, timestamps=True, multilingual=True, seed=0):
    """A Whisper of one layer; whole words are its tokens. Returns the folder's name."""
    vocabulary = {
        token: number for number, token in enumerate([*sorted(ByteLevel.alphabet()), *(f"Ġ{w}" for w in WORDS)])
    }
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    special = ["<|endoftext|>", "<|startoftranscript|>", *LANGUAGES, "<|translate|>", "<|transcribe|>"]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens([f"<|{number * 0.02:.2f}|>" for number in range(1501)])
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=64,
        num_mel_bins=80,
        init_std=1.0,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config)
    kept = [vocabulary[f"Ġ{word}"] for word in WORDS]
    generation = {
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "max_new_tokens": 24,
        "prev_sot_token_id": ids["<|startofprev|>"],
        # Words and times alone are written.
        "suppress_tokens": [n for n in vocabulary.values() if n not in kept],
    }
    if timestamps:
        generation["no_timestamps_token_id"] = ids["<|notimestamps|>"]
        generation["max_initial_timestamp_index"] = 50
    if alignment:
        generation["alignment_heads"] = [[1, 0], [1, 1]]
        generation["median_filter_width"] = 7
    if multilingual:
        generation["lang_to_id"] = {token: ids[token] for token in LANGUAGES}
        generation["task_to_id"] = {"translate": ids["<|translate|>"], "transcribe": ids["<|transcribe|>"]}
    generation["is_multilingual"] = multilingual
    model.generation_config = GenerationConfig(**generation)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return str(folder)


def save_wav2vec2(folder, rate=16000, seed=0):
    """A wav2vec2 of one layer with CTC; letters are its tokens. Returns the folder's name."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcde"]
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=rate, return_attention_mask=True).save_pretrained(folder)
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8, 8),
        conv_stride=(20, 8, 2),
        conv_kernel=(20, 8, 2),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=3,
        num_conv_pos_embedding_groups=2,
        initializer_range=1.0,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    torch.manual_seed(seed)
    model = Wav2Vec2ForCTC(config)
    torch.nn.init.normal_(model.lm_head.weight, std=1.0)
    model.save_pretrained(folder)
    return str(folder)


def save_text_model(folder):
    """A BERT, which hears nothing. Returns the folder's name."""
    BertModel(BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        folder
    )
    return str(folder)
