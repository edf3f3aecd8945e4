"""Ask a language model that sees where something is, and prompt a foundation with what it answers.

SAM4MLLM (Chen et al. 2024, ECCV, "SAM4MLLM: Enhance Multi-Modal Large Language Model for Referring
Expression Segmentation"): the model writes a box and points as text (PPG), or a box first and then how
sure it is, by *yes* and *no*, that points of it lie on the object (PQPP). What it writes is a prompt of a
foundation, which makes the mask.

``codecs``: how families of models write places. ``wording``: what they are asked. ``speakers``: the seam
to a model; ``hugging`` and ``endpoint`` are behind it. ``answers``: what an answer means. ``source``: the
prompt source.
"""
