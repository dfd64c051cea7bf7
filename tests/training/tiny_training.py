"""A tiny model, its corpus, and a trainer for both."""

from transformers import set_seed

from configuration import SelfMMConfig, SugrmConfig
from datasets_scripts.synthetic import SyntheticCorpus
from modeling import SelfMMModel, SugrmModel
from processing import MultimodalProcessor
from training.collator import MultimodalCollator
from training.corpus import prepare_split
from training.factory import word_tokenizer
from training.label_generation import LABEL_GENERATORS
from training.recipe import Recipe
from training.trainer import MultimodalTrainer

MODALITIES = ("text", "audio", "vision")
TRAIN = 24


class Setting:
    """A corpus with missing modalities, its processor, and what is built from them."""

    def __init__(self):
        corpus = SyntheticCorpus(train=TRAIN, valid=8, test=30, seed=2, missing=0.25).build()
        tokenizer = word_tokenizer(corpus["train"]["text"][:], {})
        self.processor = MultimodalProcessor(
            tokenizer, text_input="tokens", audio_feature_size=8, vision_feature_size=6
        )
        self.splits = {name: prepare_split(rows, self.processor, "raw_text") for name, rows in corpus.items()}
        self.collator = MultimodalCollator(self.processor)

    def model(self, model_type="self_mm", **fields):
        """The same weights each time; no dropout."""
        set_seed(0)
        text_config = {
            **{"model_type": "bert", "vocab_size": len(self.processor.tokenizer), "hidden_size": 16},
            **{"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
            **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 64},
        }
        if model_type == "sugrm":
            dropouts = {f"{part}_dropout": 0.0 for part in ("attention", "relu", "residual", "embedding", "output")}
            sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "spt_stride": 2}
            return SugrmModel(
                SugrmConfig(
                    text_config=text_config,
                    audio_feature_size=8,
                    vision_feature_size=6,
                    common_size=6,
                    **dropouts,
                    **sizes,
                    **fields,
                )
            )
        dropouts = {f"{task}_dropout": 0.0 for task in ("fusion", *MODALITIES)}
        sizes = {"audio_hidden_size": 5, "vision_hidden_size": 4, "fusion_size": 8, "text_size": 6, "audio_size": 5}
        config = {"text_config": text_config, "audio_feature_size": 8, "vision_feature_size": 6, "vision_size": 4}
        return SelfMMModel(SelfMMConfig(**{**config, **sizes, **dropouts, **fields}))

    def generator(self, strategy="self_mm", tasks=MODALITIES):
        rows = self.splits["train"]
        return LABEL_GENERATORS[strategy](rows["id"][:], rows["label"][:], tasks, (-3, 3))

    def trainer(
        self,
        folder,
        generator=None,
        model=None,
        optimizer=None,
        trainer_class=MultimodalTrainer,
        modality_dropout=0.0,
        **training,
    ):
        recipe = Recipe.from_dict(
            {
                **{"model_type": "self_mm", "synthetic": {}},
                "training": {
                    **{"output_dir": str(folder), "use_cpu": True, "num_train_epochs": 3, "learning_rate": 1e-2},
                    **{"per_device_train_batch_size": 5, "per_device_eval_batch_size": 8, "seed": 3},
                    **{"metric_for_best_model": "loss", "load_best_model_at_end": False, "save_total_limit": None},
                    **training,
                },
            }
        )
        return trainer_class(
            model or self.model(),
            recipe.training_arguments(),
            data_collator=self.collator,
            train_dataset=self.splits["train"],
            eval_dataset=self.splits["valid"],
            optimizer_settings=optimizer,
            modality_dropout=modality_dropout,
            label_generator=generator,
        )


def parameters(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
