"""OmniGen's head."""

import dataclasses

from flax import nnx

from ditfuse_jax.model.heads import make_head


def test_a_fresh_linear_head_predicts_zero(models, inputs):
    config = dataclasses.replace(models.PIXEL, head="linear")
    prediction = make_head(config, rngs=nnx.Rngs(0))(*inputs)
    assert prediction.shape == (*inputs[0].shape[:2], *models.image_shape(config))
    assert not prediction.any()
