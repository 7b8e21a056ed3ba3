"""The teacher of a distillation, as the training step uses it; see `flow.distillation`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import GuidanceRule
from ditfuse_jax.flow.distillation import DistillationConfig, Draws, Flows, Plan, Points
from ditfuse_jax.flow.guided_velocity import SAMPLING_T_EPS, guided_velocity
from ditfuse_jax.flow.path import T_EPS
from ditfuse_jax.model import Condition, DiTFuse, ModelConfig
from ditfuse_jax.model.flops import condition_flops, draw_flops
from ditfuse_jax.model.network import Network, Parameters, make_graph
from ditfuse_jax.prompts import TextSlots, encode_prompt, image_only_prompt, load_tokenizer

# Key of a teacher's fingerprint in the config of a checkpoint of its student.
TEACHER_FINGERPRINT = "teacher_fingerprint"


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen model and how it is sampled.

    Attributes:
      distillation: loss, and the sampling settings of teacher and student.
      tokenizer: folder of the tokenizer, None for the bundled one.
    """

    distillation: DistillationConfig
    tokenizer: str | None

    @property
    def t_eps(self) -> float:
        """The lower bound of 1 - t at the points, see `to_velocity`: as where the student samples.

        Only random times can be so near to 1 that the error needs another bound.
        """
        return SAMPLING_T_EPS if self.distillation.loss_of.draw_per_step else T_EPS

    def draws(self, draws: int) -> int:
        """Returns the points per example, of which the recipe's `flow.draws` are asked.

        Raises:
          UserError: the loss has one for each step of the student, so the recipe may not ask more.
        """
        loss = self.distillation.loss
        if not self.distillation.loss_of.draw_per_step:
            return draws
        if draws != 1:
            raise UserError(
                f"flow.draws must be 1 with distill.loss {loss!r}, which trains every step of the "
                f"student from one noise, not {draws}"
            )
        return self.distillation.student.steps

    def flops(
        self, model: ModelConfig, *, num_text: float, num_images: int, patches: int, draws: int
    ) -> float:
        """Returns the FLOPs of `points` for one example; see `training_flops`."""
        condition = num_text + num_images * patches
        encode = condition_flops(model, num_text, num_images, patches)
        draw = draw_flops(model, condition, patches)
        branches = len(self.distillation.teacher.guidance.branches)
        loss = self.distillation.loss_of
        evaluations = self.distillation.teacher.num_evaluations if loss.draw_per_step else draws
        own = encode + draws * draw if loss.on_policy else 0.0
        return branches * (encode + evaluations * draw) + own

    def points(
        self, student: DiTFuse, parameters: Parameters, condition: Condition, draws: Draws
    ) -> Points:
        """Returns where the student is trained, with which velocity; nothing has a gradient.

        Args:
          student: with parameters without gradients.
          parameters: of the teacher.
          condition: of the examples.
          draws: noise and times.
        """
        sampling = self.distillation.teacher
        graph, _ = make_graph(Network(student.config, quantize=student.transformer.quantized))
        teacher = nnx.merge(graph, parameters)
        guidance = sampling.guidance
        weights = jnp.array([guidance.weights[name] for name in guidance.branches], jnp.float32)
        branches = self._branches(condition, guidance.branches, student.config)
        alone = jax.tree.map(lambda x: x[None], condition)
        flows = Flows(
            guided_velocity(teacher, branches, weights, guidance.rule),
            guided_velocity(teacher, branches, weights, guidance.rule, T_EPS),
            guided_velocity(student, alone, jnp.ones(1), GuidanceRule()),
        )
        height, width = draws.image.shape[1:3]
        tokens = height * width // student.config.patch_size**2
        steps = self.distillation.student.steps
        plan = Plan(jnp.asarray(sampling.time_grid(tokens)), steps, sampling.solver)
        points = self.distillation.loss_of.points(flows, draws, plan)
        return jax.lax.stop_gradient(points)

    def _branches(
        self, condition: Condition, names: tuple[str, ...], model: ModelConfig
    ) -> Condition:
        """Returns the conditions of the guidance branches, every leaf (R, B, ...).

        The images are in the order in which the examples' prompts place them.
        """
        size, count = condition.image_valid.shape
        made = []
        for name in names:
            if name == "cond":
                made.append(condition)
                continue
            negative = self.distillation.teacher.negative_prompt
            text = image_only_prompt(count) if name == "img" else negative
            tokenizer, slots = load_tokenizer(self.tokenizer), TextSlots(*model.text_slots)
            prompt = encode_prompt(tokenizer, text, count, slots, count)

            def rows(row: np.ndarray) -> jax.Array:
                return jnp.broadcast_to(jnp.asarray(row), (size, *row.shape))

            made.append(
                condition._replace(
                    tokens=rows(prompt.tokens),
                    token_valid=rows(prompt.valid),
                    image_valid=rows(prompt.image_valid),
                )
            )
        return jax.tree.map(lambda *parts: jnp.stack(parts), *made)
