"""Model FLOPs of compiled programs."""

from ditfuse_jax.aot.compile import model_flops
from ditfuse_jax.train.recipe import load_recipe
from ditfuse_jax.train.settings import resolve


def flops(solver: str, steps: int) -> float:
    """Model FLOPs of the nano recipe's sampler."""
    overrides = (f"--config.sample.solver={solver}", f"--config.sample.steps={steps}")
    return model_flops(resolve(load_recipe("nano_m3", overrides)), "sample")


def test_a_second_order_solver_costs_two_evaluations_in_all_steps_but_the_last():
    assert flops("heun", 4) == flops("euler", 7)


def test_a_distillation_counts_the_teacher_s_evaluations():
    def training(*overrides: str) -> float:
        return model_flops(resolve(load_recipe("nano_distill", overrides)), "train")

    plain = training(
        "--config.distill.loss=", "--config.flow.draws=4", "--config.data.condition_dropout=0.1"
    )
    assert training() > 2 * plain
    assert training("--config.distill.sample.steps=16") > 1.5 * training()
