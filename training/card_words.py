"""What a model card says of each target, by words and examples."""

TASKS = {
    "sentiment": (
        "Predicts how positive a person's utterance is, from $low (most negative) to $high (most positive),",
        "(batch, 1): the sentiment",
    ),
    "sentiment2": ("Predicts whether a person's utterance is negative or positive,", "(batch, 2): negative, positive"),
    "sentiment7": (
        "Predicts how positive a person's utterance is, in seven classes from -3 to 3,",
        "(batch, 7): the classes from -3 to 3",
    ),
    "emotions": (
        "Predicts which of six emotions (happy, sad, anger, surprise, disgust, fear) a person's utterance shows,",
        "(batch, 6): an emotion is predicted where the sigmoid is above 0.5",
    ),
    "emotion": (
        "Predicts which of six emotions (happy, sad, anger, surprise, disgust, fear) is the strongest in a person's "
        "utterance,",
        "(batch, 6): before the softmax over the emotions",
    ),
}
METRICS = {
    "sims": "`mae` and `corr` are those of predictions clipped to [-1, 1]; `acc2` and `f1` tell positive from the "
    "rest; F1 is weighted by the labels' frequencies.",
    "mosi": "`acc2_has0` and `f1_has0` tell negative from non-negative, `acc2_non0` and `f1_non0` negative from "
    "positive, without the samples whose label is zero; F1 is weighted by the labels' frequencies.",
    "emotions": "`acc_`, `wa_` and `f1_` are, per emotion and averaged, the accuracy, the mean of recall and "
    "specificity, and the F1 weighted by the labels' frequencies; `acc6` is how often the highest score is that of a "
    "strongest emotion, among samples with any.",
}
SENSES = {"text": "text", "audio": "voice", "vision": "face"}
# What a code example gives where the model reads the text itself, by language.
EXAMPLE_TEXT = "I did not expect to like it, but I did."
EXAMPLE_TEXTS = {"en": (EXAMPLE_TEXT, "It was too long."), "zh": ("我没想到会喜欢它，但我真的很喜欢。", "太长了。")}
# What the pipeline gives back, by target, with numbers that are examples.
ANSWERS = {
    "sentiment": '{"label": "positive", "score": 1.83, "range": [$low, $high], "text": ..., ...}',
    "sentiment2": '{"label": "positive", "score": 0.9, "scores": {"negative": 0.1, "positive": 0.9}, "text": ..., ...}',
    "sentiment7": '{"label": "neutral", "score": 0.4, "scores": {"highly negative": 0.1, ...}, "text": ..., ...}',
    "emotions": '{"labels": ["happy"], "scores": {"happy": 0.8, "sad": 0.1, ...}, "text": ..., ...}',
    "emotion": '{"label": "happy", "score": 0.6, "scores": {"happy": 0.6, "sad": 0.1, ...}, "text": ..., ...}',
}
