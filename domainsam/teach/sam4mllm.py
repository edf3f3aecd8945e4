"""Teach a language model to point: LoRA on the dialogues of SAM4MLLM (Chen et al. 2024, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domainsam.errors import CheckpointError
from domainsam.prompter.language.adapters import add_adapter, save_adapter
from domainsam.prompter.language.folders import load_hugging
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.speakers import MODES, AskOptions
from domainsam.prompter.language.wording import load_wording
from domainsam.teach.dialogues import IGNORED, Batch, Dialogues, Known, read_known
from domainsam.teach.options import TeachOptions, pick
from domainsam.train.loop import Stage, StageOptions, run_stages
from domainsam.train.start import Trained, Training, start_run

EPOCHS, RATE, DECAY, WARM_UP = 3, 1e-4, 1e-3, 0.01
"""Passes, highest rate, weight decay, and share of the steps in which the rate rises."""
RANK, ALPHA, DROPOUT = 128, 128.0, 0.05
SCORE = "likelihood"
START = 1 / 25
"""Of the highest rate, where OneCycle begins."""


def teach(
    data: Path,
    options: TeachOptions,
    *,
    mllm: str | Path,
    mode: str | None = None,
    rank: int = RANK,
    teacher: str | None = None,
    wording: Path | None = None,
    coordinates: str | None = None,
) -> Trained:
    """Train an adapter, or go on with a run that was interrupted, and write it.

    Parameters
    ----------
    data
        As of :mod:`domainsam.teach.dialogues`.
    mllm
        Folder of the model that is adapted.
    mode
        One of the modes; both, by turns, where it is None.
    rank
        Of LoRA; alpha is the same.
    teacher
        Foundation that chooses, of 64 drawn sets, the points that make the best mask; without one they lie
        deep in the mask.
    wording, coordinates
        As of asking.

    Raises
    ------
    MissingInputError, InputError
        If a file is missing or cannot be used.
    WeightsError, CheckpointError, DependencyError
        If the model cannot be loaded or adapted.
    OutputError
        If the file exists and may not be replaced, or cannot be written.
    """
    known = read_known(data)
    with start_run(options) as training:
        ask = AskOptions(str(mllm), coordinates=coordinates, wording=wording)
        speaker = load_hugging(ask, str(training.devices.device), "fp32")
        return Lesson(training, options, speaker, known, mode, rank, teacher, wording).run()


class Lesson:
    """One run: the model with its adapter, dialogues and the stage."""

    def __init__(
        self,
        training: Training,
        options: TeachOptions,
        speaker: HuggingSpeaker,
        known: Sequence[Known],
        mode: str | None,
        rank: int,
        teacher: str | None,
        wording: Path | None,
    ) -> None:
        self.training, self.options, self.speaker = training, options, speaker
        self.modes = MODES if mode is None else (mode,)
        self.wording = load_wording(speaker.kind, wording)
        if not speaker.talks():
            raise CheckpointError(
                f"{speaker.name}: has no chat template, so that it cannot be told what of a dialogue to learn"
            )
        torch.manual_seed(options.seed)
        self.model, self.about = add_adapter(speaker.model, rank, float(rank), DROPOUT)
        speaker.model = self.model
        self.teacher = None if teacher is None else training.load_foundation(teacher)
        self.teacher_name = teacher
        cut = max(1, len(known) - round(len(known) * options.held_back))
        order = np.random.default_rng(options.seed).permutation(len(known))
        self.learning = [known[number] for number in order[:cut]]
        self.held = [known[number] for number in order[cut:]]

    def run(self) -> Trained:
        """Teach, judge and write."""
        options = self.options
        steps = options.count_steps(0, -(-len(self.learning) // options.batch_size), EPOCHS)
        chosen = StageOptions(
            steps,
            lr=pick(options.rates, 0, RATE),
            weight_decay=DECAY,
            warmup=max(1, round(steps * WARM_UP)),
            warmup_start=START,
            schedule="linear",
            ema=0.0,
            eval_every=max(1, min(steps, options.every)),
            keep="last",
        )
        adapted = Adapted(self.model)
        stream: Any = self._dialogues(self.learning, options.batch_size, self.training.devices.rank)
        before = self._judge()
        stage = Stage(
            "dialogues", Objective(self.model, adapted), adapted, stream, self._judge, SCORE, chosen
        )
        with self.training.run(self._words(chosen)) as run:
            run_stages(run, [stage])
        after = self._judge()
        metrics = {**after, **{f"{name}_before": value for name, value in before.items()}}
        if self.training.writes:
            save_adapter(self.model, options.out, self._tell(metrics, steps))
        note = f"use it: --mllm {self.speaker.name} --adapter {options.out.name}"
        return self.training.made(metrics, (note,))

    def _dialogues(self, known: Sequence[Known], batch_size: int, rank: int = 0) -> Dialogues:
        modes = self.modes if self.wording.points else MODES[:1]
        seed = self.options.seed
        return Dialogues(self.speaker, self.wording, modes, known, batch_size, seed, rank, self.teacher)

    def _judge(self) -> dict[str, float]:
        """Mean likelihood of a right token in dialogues that were held back; nothing without any."""
        if not self.held:
            return {}
        stream = self._dialogues(self.held, 1)
        self.model.eval()
        with torch.no_grad():
            losses = [
                float(loss_of(self.model, stream.gather([number], 0))) for number in range(len(self.held))
            ]
        return {SCORE: float(np.exp(-np.mean(losses)))}

    def _words(self, chosen: StageOptions) -> list[Any]:
        """What decides the answer."""
        return [
            *("sam4mllm", self.speaker.identity, self.speaker.codec.name, asdict(self.wording)),
            *(self.about, self.modes, self.teacher_name, asdict(chosen), self.options.batch_size),
            [[one.image.name, one.phrase, [path.name for path in one.masks]] for one in self.learning],
        ]

    def _tell(self, metrics: Mapping[str, float], steps: int) -> dict[str, Any]:
        return {
            "adapter": "sam4mllm",
            "lora": self.about,
            "model_type": self.speaker.kind,
            "base": self.speaker.name,
            "coordinates": self.speaker.codec.name,
            "modes": list(self.modes),
            "dialogues": len(self.learning),
            "steps": steps,
            "scores": {name: round(value, 6) for name, value in metrics.items()},
            "licence": f"as that of the model {self.speaker.name} and of the pictures allows",
        }


class Adapted(nn.Module):
    """The adapter's weights alone: what a run keeps as its state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.weights = nn.ParameterList([part for part in model.parameters() if part.requires_grad])


class Objective(nn.Module):
    """Cross-entropy of the answers' tokens."""

    def __init__(self, model: nn.Module, adapted: Adapted) -> None:
        super().__init__()
        self.adapted = adapted
        # A tuple hides the model from the module's own lists: it neither learns nor is saved.
        self._model = (model,)

    def train(self, mode: bool = True) -> Objective:
        """Also the model, whose adapter has a dropout."""
        self._model[0].train(mode)
        return super().train(mode)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``"loss"``."""
        return {"loss": loss_of(self._model[0], batch)}


def loss_of(model: Any, batch: Batch) -> Tensor:
    """Mean cross-entropy of the tokens that are to be learnt."""
    logits = model(**batch.inputs).logits[:, :-1].float()
    target = batch.labels[:, 1:].to(logits.device)
    loss: Tensor = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
    return loss
