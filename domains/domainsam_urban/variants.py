"""The trained model, whole and with parts switched off, as something to evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from domainsam.errors import InputError
from domainsam_urban.evaluate import Predict
from domainsam_urban.map_options import MapOptions, OutputOptions


@dataclass(frozen=True)
class Variant:
    """A way to run one model: which method, and which prompt parts are off."""

    name: str
    method: str = "full"
    disabled: frozenset[str] = frozenset()


STAGES = (Variant("full"), Variant("coarse", method="coarse"))
"""The model, and its own first look without the foundation (the ablation's "no SAM")."""
ABLATION = (
    *STAGES,
    Variant("no box", disabled=frozenset({"box"})),
    Variant("no mask", disabled=frozenset({"mask"})),
    Variant("no SAM embedding", disabled=frozenset({"sam_embedding"})),
    Variant("no SegFormer embedding", disabled=frozenset({"segformer_embedding"})),
)
"""UV-SAM's ablation: its prompt parts off one by one, and the SegFormer alone."""


def model_answers(options: MapOptions, variants: tuple[Variant, ...] = STAGES) -> Predict:
    """A function that maps a scene with every variant and keeps the probabilities.

    Variants differ in pass two alone, so pass one runs once a scene.

    ``options`` says how to read the scene and run the networks; its outputs,
    method and disabled parts are set here.

    Raises
    ------
    DomainSamError
        If the model cannot be used; at once, so that it is no fault of a scene.
    """
    from domainsam_urban.model import load_model
    from domainsam_urban.pipeline import map_scenes

    model = load_model(options)

    def predict(scene: Path, workdir: Path) -> Mapping[str, Path]:
        answers: dict[str, Path] = {}
        first_pass = workdir / "first_pass.u8"
        for variant in variants:
            path = workdir / f"{variant.name.replace(' ', '_')}.tif"
            run = replace(options.run, method=variant.method, disabled=variant.disabled)
            outputs = OutputOptions(vectors=(), probability=path, stac=False)
            batch = map_scenes((str(scene),), replace(options, run=run, outputs=outputs), model, first_pass)
            if batch.failures:
                raise InputError(batch.failures[0][1])
            answers[variant.name] = path
        first_pass.unlink(missing_ok=True)
        return answers

    return predict
