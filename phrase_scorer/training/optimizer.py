"""The optimisers of training, and what each keeps of a parameter."""

from __future__ import annotations

import torch

from phrase_scorer.models import PhraseModel
from phrase_scorer.training.settings import TrainingSettings

KEPT_OF_A_PARAMETER = {
    "adadelta": ("step", "square_avg", "acc_delta"),
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
}


def optimizer_of(model: PhraseModel, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), without decay, or Adadelta as in the paper."""
    parameters = list(model.parameters())
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(parameters, lr=settings.learning_rate, rho=0.95, eps=1e-6)
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
