"""The tensors of a two-layer model of each family, written out by hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Anatomy:
    """A two-layer model's tensors by hand; `*` stands for weight and bias, `{i}` for 0 and 1."""

    embeddings: str
    attention: str
    feed_forward: str
    pooler: str
    head: str
    norms: str
    """Those of the names above that belong to a normalisation."""

    def names(self, stems: str, layers: tuple[int, ...] = (0, 1)) -> set[str]:
        """All names that a list of stems stands for."""
        one_per_layer = {stem.replace("{i}", str(i)) for stem in stems.split() for i in layers}
        both = [(stem[:-1] + "weight", stem[:-1] + "bias") for stem in one_per_layer if "*" in stem]
        return {stem for stem in one_per_layer if "*" not in stem}.union(*both)

    @property
    def everything(self) -> set[str]:
        groups = (self.embeddings, self.attention, self.feed_forward, self.pooler, self.head)
        return self.names(" ".join(groups))


BERT = Anatomy(
    embeddings="""
        bert.embeddings.word_embeddings.weight
        bert.embeddings.position_embeddings.weight
        bert.embeddings.token_type_embeddings.weight
        bert.embeddings.LayerNorm.*""",
    attention="""
        bert.encoder.layer.{i}.attention.self.query.*
        bert.encoder.layer.{i}.attention.self.key.*
        bert.encoder.layer.{i}.attention.self.value.*
        bert.encoder.layer.{i}.attention.output.dense.*
        bert.encoder.layer.{i}.attention.output.LayerNorm.*""",
    feed_forward="""
        bert.encoder.layer.{i}.intermediate.dense.*
        bert.encoder.layer.{i}.output.dense.*
        bert.encoder.layer.{i}.output.LayerNorm.*""",
    pooler="bert.pooler.dense.*",
    head="classifier.*",
    norms="""
        bert.embeddings.LayerNorm.*
        bert.encoder.layer.{i}.attention.output.LayerNorm.*
        bert.encoder.layer.{i}.output.LayerNorm.*""",
)


def like_bert(prefix: str, **others: str) -> Anatomy:
    """BERT's tensors under another prefix, but for those that are given."""
    own = {key: stems.replace("bert.", f"{prefix}.") for key, stems in asdict(BERT).items()}
    return Anatomy(**{**own, **others})


TWO_LAYER_HEAD = "classifier.dense.* classifier.out_proj.*"
ROBERTA = like_bert("roberta", pooler="", head=TWO_LAYER_HEAD)
ELECTRA = like_bert(
    "electra",
    embeddings=BERT.embeddings.replace("bert.", "electra.") + " electra.embeddings_project.*",
    pooler="",
    head=TWO_LAYER_HEAD,
)
DISTILBERT = Anatomy(
    embeddings="""
        distilbert.embeddings.word_embeddings.weight
        distilbert.embeddings.position_embeddings.weight
        distilbert.embeddings.LayerNorm.*""",
    attention="""
        distilbert.transformer.layer.{i}.attention.q_lin.*
        distilbert.transformer.layer.{i}.attention.k_lin.*
        distilbert.transformer.layer.{i}.attention.v_lin.*
        distilbert.transformer.layer.{i}.attention.out_lin.*
        distilbert.transformer.layer.{i}.sa_layer_norm.*""",
    feed_forward="""
        distilbert.transformer.layer.{i}.ffn.lin1.*
        distilbert.transformer.layer.{i}.ffn.lin2.*
        distilbert.transformer.layer.{i}.output_layer_norm.*""",
    pooler="",
    head="pre_classifier.* classifier.*",
    norms="""
        distilbert.embeddings.LayerNorm.*
        distilbert.transformer.layer.{i}.sa_layer_norm.*
        distilbert.transformer.layer.{i}.output_layer_norm.*""",
)
DEBERTA = like_bert(
    "deberta",
    embeddings="""
        deberta.embeddings.word_embeddings.weight
        deberta.embeddings.LayerNorm.*
        deberta.encoder.rel_embeddings.weight
        deberta.encoder.LayerNorm.*""",
    attention="""
        deberta.encoder.layer.{i}.attention.self.query_proj.*
        deberta.encoder.layer.{i}.attention.self.key_proj.*
        deberta.encoder.layer.{i}.attention.self.value_proj.*
        deberta.encoder.layer.{i}.attention.output.dense.*
        deberta.encoder.layer.{i}.attention.output.LayerNorm.*""",
    pooler="pooler.dense.*",
    norms=BERT.norms.replace("bert.", "deberta.") + " deberta.encoder.LayerNorm.*",
)
# No biases, and the first layer has no norm before its attention.
MODERNBERT = Anatomy(
    embeddings="model.embeddings.tok_embeddings.weight model.embeddings.norm.weight",
    attention="""
        model.layers.{i}.attn.Wqkv.weight
        model.layers.{i}.attn.Wo.weight
        model.layers.1.attn_norm.weight""",
    feed_forward="""
        model.layers.{i}.mlp.Wi.weight
        model.layers.{i}.mlp.Wo.weight
        model.layers.{i}.mlp_norm.weight""",
    pooler="model.final_norm.weight head.dense.weight head.norm.weight",
    head="classifier.*",
    norms="""
        model.embeddings.norm.weight
        model.layers.1.attn_norm.weight
        model.layers.{i}.mlp_norm.weight
        model.final_norm.weight
        head.norm.weight""",
)
ANATOMIES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "deberta-v2": DEBERTA,
    "modernbert": MODERNBERT,
}
