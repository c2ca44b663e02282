"""Which automatic class of transformers loads a model."""


def auto_class(kind: type) -> str:
    """Returns the name of the automatic class that loads a class of transformers."""
    from evoprune.export import modeling_evoprune_cut

    return modeling_evoprune_cut.auto_class(kind)
