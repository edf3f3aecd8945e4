"""One stage of training: steps, evaluations, early stop, and a state to go on from.

A step depends on its number and on the state before it, on nothing else: its
batch and all its random numbers follow from seed, stage and step. So a run
that was killed and resumed ends with the very weights of an unbroken one (on
the same machine and libraries, where their kernels are deterministic: CPU).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError
from domainsam.progress import Progress, report_nothing
from domainsam.train.crops import BatchStream, read_batches_ahead
from domainsam.train.devices import Devices
from domainsam.train.history import History
from domainsam.train.state import RunState, copy_tensors, load_state, save_state

BETAS = (0.9, 0.999)
"""AdamW's, as published for UV-SAM."""
POLY_POWER = 0.9
"""Of the falling rate in TransUNet and all that copied its trainer."""
EMA_LEAD = 10
"""Early averages forget faster: their decay is at most ``(1 + step) / (10 + step)`` (TensorFlow's rule)."""

Evaluate = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class StageOptions:
    """How long and how fast a stage learns.

    Parameters
    ----------
    steps
        Batches; 0 leaves the stage out.
    lr, weight_decay
        Of AdamW; the rate is the highest one.
    warmup
        Steps in which the rate rises linearly from ``warmup_start`` of its height.
    lr_floor
        Share of the rate that the cosine ends at.
    schedule
        How the rate falls: ``"cosine"``, ``"poly"`` with the power 0.9 over as many steps as the stage
        has, counted from the warm-up's end (so it does not reach 0), ``"poly_rest"`` with that power
        over what the warm-up leaves of them, ``"linear"`` evenly over these (OneCycle), or ``"milestones"``,
        to a tenth at each of these.
    rise
        How it rises in the warm-up: evenly, or by equal factors.
    beyond
        Steps by which ``"poly_rest"`` reckons the stage longer than it is.
    milestones
        Shares of the stage's steps.
    decay_vectors
        Whether ``weight_decay`` also holds for parameters of one dimension: biases, norms.
    clip
        Greatest norm of the gradient; 0 for no limit.
    ema
        Decay of the running mean of the weights that is evaluated and kept; 0 for none.
    eval_every
        Steps between evaluations; states are saved as often.
    patience
        Evaluations without a better score before the stage ends early; 0 for never.
    keep
        ``"best"``: the weights of the best evaluation; ``"last"``: those of the last step, so that
        validation ground has chosen nothing and its score means what it says.
    """

    steps: int
    lr: float = 5e-4
    weight_decay: float = 0.01
    warmup: int = 50
    warmup_start: float = 1e-4
    lr_floor: float = 0.0
    schedule: Literal["cosine", "poly", "poly_rest", "linear", "milestones"] = "cosine"
    rise: Literal["linear", "exponential"] = "linear"
    beyond: int = 0
    milestones: tuple[float, ...] = ()
    decay_vectors: bool = True
    clip: float = 1.0
    ema: float = 0.99
    eval_every: int = 50
    patience: int = 0
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        if self.steps < 0 or self.eval_every < 1 or not 0 <= self.ema < 1:
            raise ConfigError(
                f"steps {self.steps}, eval_every {self.eval_every}, ema {self.ema}: "
                "expected 0 or more, 1 or more, and 0 to below 1"
            )

    def over_epochs(
        self, epochs: int, steps: int, judged: int = 1, warmup: int | None = None
    ) -> StageOptions:
        """The same for so many epochs of ``steps`` steps each.

        Parameters
        ----------
        judged
            Epochs between evaluations.
        warmup
            Epochs in which the rate rises; by default the steps stay what they are.
        """
        rise = self.warmup if warmup is None else warmup * steps
        return replace(self, steps=epochs * steps, eval_every=judged * steps, warmup=rise)


def learning_rate(step: int, options: StageOptions) -> float:
    """The rate of a step, counted from 0: it rises and falls as the options say."""
    rise = 1.0
    if step < options.warmup and options.rise == "exponential":
        # As DELIVER's code, which MemorySAM trains with: the first step is at warmup_start itself.
        rise = options.warmup_start ** (1 - step / options.warmup)
    elif step < options.warmup:
        rise = options.warmup_start + (1 - options.warmup_start) * (step + 1) / options.warmup
    if options.schedule == "poly_rest":
        left = options.steps + options.beyond - options.warmup
        fall = math.pow(max(0.0, 1 - max(0, step - options.warmup) / max(1, left)), POLY_POWER)
    elif options.schedule == "linear":
        left = max(1, options.steps - options.warmup)
        fall = max(0.0, 1 - max(0, step - options.warmup) / left)
    elif options.schedule == "poly":
        # As SAMed and SAM-LST: during the warm-up the rate does not fall yet.
        fall = math.pow(1 - max(0, step - options.warmup) / max(1, options.steps), POLY_POWER)
    elif options.schedule == "milestones":
        fall = 0.1 ** sum(step >= share * options.steps for share in options.milestones)
    else:
        fall = 0.5 * (1 + math.cos(math.pi * step / max(1, options.steps)))
    return options.lr * rise * (options.lr_floor + (1 - options.lr_floor) * fall)


@dataclass(frozen=True)
class Run:
    """What the stages of one run share.

    ``folder`` keeps the state and the logs; ``signature`` says what the run
    is, so that the state of another one is refused; ``resume`` takes up the
    state that is there.
    """

    folder: Path
    signature: str
    devices: Devices
    seed: int = 0
    resume: bool = False
    workers: int = 2
    progress: Progress = report_nothing

    @property
    def state_path(self) -> Path:
        """The file of the state."""
        return self.folder / "state.pt"

    def start(self) -> RunState:
        """The state to go on from, or a fresh one."""
        if self.resume and self.state_path.exists():
            return load_state(self.state_path, self.signature, self.devices.device)
        return RunState(self.signature)


class Stage:
    """One stage: an objective, its batches, and the module that both are about.

    Parameters
    ----------
    name
        Of the stage, different from the other stages' of the run.
    objective
        Module that returns ``"loss"`` and its parts for a batch; contains ``trained``.
    trained
        What the state keeps.
    stream
        Batches by step.
    evaluate
        Scores of ``trained`` as it is when called.
    score
        The score by which weights are kept.
    prepare
        Called before the stage begins or goes on; freezes parts, for instance.
    factors
        Shares of the rate for parameters of ``trained`` by how their names begin; others have all of it.
    remembers
        Part of the objective whose buffers change from step to step; the state keeps them too.
    """

    def __init__(
        self,
        name: str,
        objective: nn.Module,
        trained: nn.Module,
        stream: BatchStream,
        evaluate: Evaluate,
        score: str,
        options: StageOptions,
        prepare: Callable[[], None] | None = None,
        factors: Mapping[str, float] | None = None,
        remembers: nn.Module | None = None,
    ) -> None:
        self.factors, self.remembers = dict(factors or {}), remembers
        self.name, self.objective, self.trained, self.prepare = name, objective, trained, prepare
        self.stream, self.evaluate, self.score, self.options = stream, evaluate, score, options

    def run(self, run: Run, state: RunState, history: History) -> RunState:
        """Train until the last step or until patience ends; leaves the best weights in ``trained``.

        A stage that the state has finished already only puts its weights in place.
        """
        fresh = state.stage != self.name
        if not fresh:
            self.trained.load_state_dict(state.trained)
            buffers = self.buffers()
            for name, value in state.remembered.items():
                buffers[name].copy_(value)
        if not fresh and state.done:
            return state
        if self.prepare is not None:
            self.prepare()
        trainer = _Trainer(self, run, state if not fresh else self._begin(run, state), history)
        devices = [run.devices.device] if run.devices.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            return trainer.run()

    def buffers(self) -> dict[str, Tensor]:
        """What the objective remembers from step to step, by name."""
        return {} if self.remembers is None else dict(self.remembers.named_buffers())

    def _begin(self, run: Run, state: RunState) -> RunState:
        weights = copy_tensors(self.trained.state_dict())
        ema = copy_tensors(weights) if self.options.ema else {}
        return RunState(run.signature, self.name, trained=weights, ema=ema, history=state.history)


def run_stages(run: Run, stages: Sequence[Stage]) -> None:
    """Train stages one after another, from the one that the run's state is in."""
    history = History(run.folder, enabled=run.devices.rank == 0)
    state = run.start()
    names = [stage.name for stage in stages]
    for stage in stages[names.index(state.stage) if state.stage in names else 0 :]:
        state = stage.run(run, state, history)
    history.close()


def group_parameters(parameters: Sequence[nn.Parameter], options: StageOptions) -> list[dict[str, Any]]:
    """Group parameters by whether they decay; one group where all do."""
    if options.decay_vectors:
        return [{"params": list(parameters), "weight_decay": options.weight_decay}]
    vectors = [part for part in parameters if part.ndim <= 1]
    others = [part for part in parameters if part.ndim > 1]
    return [
        {"params": others, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def split_by_factor(
    parameters: Mapping[str, nn.Parameter], factors: Mapping[str, float]
) -> dict[float, list[nn.Parameter]]:
    """Parameters by their share of the rate: that of the beginning that their name has, else 1."""
    found: dict[float, list[nn.Parameter]] = {}
    for name, part in parameters.items():
        factor = next((share for start, share in factors.items() if name.startswith(start)), 1.0)
        found.setdefault(factor, []).append(part)
    return found


class _Trainer:
    """A stage in progress."""

    def __init__(self, stage: Stage, run: Run, state: RunState, history: History) -> None:
        self.stage, self.run_, self.state, self.history = stage, run, state, history
        self.options = stage.options
        learning = {name: part for name, part in stage.trained.named_parameters() if part.requires_grad}
        self.parameters = list(learning.values())
        groups = [
            {**group, "factor": factor}
            for factor, parts in split_by_factor(learning, stage.factors).items()
            for group in group_parameters(parts, self.options)
        ]
        optimizer: Any = torch.optim.AdamW(groups, lr=self.options.lr, betas=BETAS)
        stage.objective.train()
        if state.optimizer:
            optimizer.load_state_dict(state.optimizer)
        self.objective, self.optimizer = run.devices.prepare(stage.objective, optimizer)

    def run(self) -> RunState:
        state, options = self.state, self.options
        with read_batches_ahead(self.stage.stream, state.step, options.steps, self.run_.workers) as batches:
            for batch in batches:
                row = self._step(batch)
                state.step += 1
                if state.step % options.eval_every == 0 or state.step == options.steps:
                    self._evaluate(row)
                    if options.patience and state.stale >= options.patience:
                        break
                self.run_.progress(self.stage.name, state.step, options.steps)
        self._finish()
        return state

    def _step(self, batch: Any) -> dict[str, float | str]:
        """One step of the optimiser; the row that describes it."""
        step, devices = self.state.step, self.run_.devices
        stage = int.from_bytes(self.stage.name.encode()[:4], "big")
        words = np.random.SeedSequence([self.run_.seed, stage, devices.rank, step]).generate_state(1)
        torch.manual_seed(int(words[0]))
        rate = learning_rate(step, self.options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        with devices.autocast():
            parts: Mapping[str, Tensor] = self.objective(batch.to(devices.device))
        if not torch.isfinite(parts["loss"]):
            raise ConfigError(
                f"the loss of stage '{self.stage.name}' is not finite at step {step + 1}: "
                "use a lower --lr, or --precision fp32"
            )
        self.optimizer.zero_grad()
        devices.backward(parts["loss"])
        if self.options.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        self.optimizer.step()
        self._average()
        row = {name: float(value.detach()) for name, value in parts.items()}
        self.history.step(self.stage.name, step + 1, row)
        return {"stage": self.stage.name, "step": step + 1, "lr": rate}

    @torch.no_grad()
    def _average(self) -> None:
        if not self.state.ema:
            return
        step = self.state.step
        decay = min(self.options.ema, (1 + step) / (EMA_LEAD + step))
        for name, value in self.stage.trained.state_dict().items():
            mean = self.state.ema[name]
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def _evaluate(self, row: dict[str, float | str]) -> None:
        """Scores of the averaged weights; keeps them if they are the best; saves the state."""
        state, trained = self.state, self.stage.trained
        current = copy_tensors(trained.state_dict())
        judged = state.ema or current
        scores: Mapping[str, float] = {}
        if self.run_.devices.rank == 0:
            trained.load_state_dict(judged)
            trained.eval()
            scores = self.stage.evaluate()
            trained.train()
            trained.load_state_dict(current)
        scores = self.run_.devices.shared(scores)
        score = scores.get(self.stage.score, math.nan)
        state.stale += 1
        # Without a score (nothing to judge) the latest weights are the best guess.
        last = self.options.keep == "last"
        if score > state.best_score or not state.best or math.isnan(score) or last:
            state.best, state.stale = copy_tensors(judged), 0
            state.best_score = state.best_score if math.isnan(score) else score
        state.history.append({**row, **self.history.recent(), **scores})
        self._save(current)

    def _save(self, weights: dict[str, Tensor]) -> None:
        self.state.trained = weights
        self.state.remembered = copy_tensors(self.stage.buffers())
        self.state.optimizer = {} if self.state.done else self.optimizer.state_dict()
        if self.run_.devices.rank == 0:
            save_state(self.run_.state_path, self.state)
            self.history.write(self.state.history, self.state.done)

    def _finish(self) -> None:
        self.state.done = True
        best = self.state.best or copy_tensors(self.stage.trained.state_dict())
        # Gradients are common to all processes; running statistics are each one's own.
        self.run_.devices.align(best)
        self.stage.trained.load_state_dict(best)
        self.stage.trained.eval()
        self._save(copy_tensors(best))
