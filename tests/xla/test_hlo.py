"""Parsing and costs of optimised programs: compiled for this CPU, and text for TPUs."""

import jax
import jax.numpy as jnp
import pytest

from ditfuse_jax.aot.collectives import collectives
from ditfuse_jax.aot.cost_analysis import hbm_bytes, matrix_flops, unknown_kernels
from ditfuse_jax.model import Layout
from ditfuse_jax.xla.hlo import parse_hlo, parse_shape


def compiled(function, *shapes):
    return (
        jax.jit(function).lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).compile()
    )


def xla_flops(stage):
    cost = stage.cost_analysis()
    assert cost is not None
    return cost["flops"]


def layers(x, weights):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]


def test_products_inside_a_loop_are_counted_once_per_iteration():
    done = compiled(layers, (8, 32), (5, 32, 32))
    module = parse_hlo(done.as_text())
    assert matrix_flops(module) == 5 * 2 * 8 * 32 * 32
    assert not module.unknown_loops
    assert xla_flops(done) < matrix_flops(module)  # XLA counts the body once


def test_trip_counts_of_nested_loops_multiply():
    def nested(x, weights):
        return jax.lax.fori_loop(0, 3, lambda _, x: layers(x, weights), x)

    module = parse_hlo(compiled(nested, (8, 32), (5, 32, 32)).as_text())
    assert matrix_flops(module) == 3 * 5 * 2 * 8 * 32 * 32


def test_a_loop_of_unknown_length_is_listed_and_counts_once():
    def until_small(x, weight):
        return jax.lax.while_loop(lambda x: jnp.sum(x) > 1.0, lambda x: x @ weight, x)

    module = parse_hlo(compiled(until_small, (8, 32), (32, 32)).as_text())
    assert len(module.unknown_loops) == 1
    assert matrix_flops(module) == 2 * 8 * 32 * 32


@pytest.mark.parametrize("stride", [1, 2])
def test_the_flops_of_a_convolution_equal_xla_s_count(stride):
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    lowered = jax.jit(convolve).lower(*(jnp.zeros(s) for s in ((2, 9, 9, 4), (3, 3, 4, 8))))
    text = """
ENTRY %main (a: f32[2,9,9,4], b: f32[3,3,4,8]) -> f32[2,OUT,OUT,8] {
  %a = f32[2,9,9,4]{3,2,1,0} parameter(0)
  %b = f32[3,3,4,8]{3,2,1,0} parameter(1)
  ROOT %c = f32[2,OUT,OUT,8]{3,2,1,0} convolution(%a, %b), window={size=3x3 STRIDEpad=1_1x1_1}, \
dim_labels=b01f_01io->b01f
}
"""
    out = 9 if stride == 1 else 5
    strides = "" if stride == 1 else "stride=2x2 "
    module = parse_hlo(text.replace("OUT", str(out)).replace("STRIDE", strides))
    assert matrix_flops(module) == xla_flops(lowered)


# Two layers, each with a ring of two steps, as the TPU compiler overlaps an all-gather with a
# product.  The ring's counter starts with a copy.
RING = """
%ring_condition (p: (f32[4,8], u32[])) -> pred[] {
  %c = u32[]{:T(128)} constant(4)
  %p = (f32[4,8]{1,0:T(8,128)}, u32[]{:T(128)}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=1
  ROOT %lt = pred[]{:T(512)} compare(%i, %c), direction=LT
}
%ring_body (q: (f32[4,8], u32[])) -> (f32[4,8], u32[]) {
  %q = (f32[4,8]{1,0:T(8,128)}, u32[]{:T(128)}) parameter(0)
  %x = f32[4,8]{1,0:T(8,128)} get-tuple-element(%q), index=0
  %s = (f32[4,8]{1,0:T(8,128)}, f32[4,8]{1,0:T(8,128)S(1)}, u32[]{:S(2)}, /*index=3*/u32[]{:S(2)}) \
collective-permute-start(%x), channel_id=3, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  %d = f32[4,8]{1,0:T(8,128)S(1)} collective-permute-done(%s)
  %j = u32[]{:T(128)} get-tuple-element(%q), index=1
  %two = u32[]{:T(128)} constant(2)
  %k = u32[]{:T(128)} add(%j, %two)
  ROOT %t = (f32[4,8]{1,0:T(8,128)}, u32[]{:T(128)}) tuple(%d, %k)
}
%layer_condition (r: (f32[4,8], s32[])) -> pred[] {
  %n = s32[]{:T(128)} constant(2)
  %r = (f32[4,8]{1,0}, s32[]{:T(128)}) parameter(0)
  %m = s32[]{:T(128)} get-tuple-element(%r), index=1
  ROOT %l = pred[]{:T(512)} compare(%m, %n), direction=LT
}
%layer_body (u: (f32[4,8], s32[])) -> (f32[4,8], s32[]) {
  %u = (f32[4,8]{1,0}, s32[]{:T(128)}) parameter(0)
  %v = f32[4,8]{1,0} get-tuple-element(%u), index=0
  %zero = u32[]{:T(128)} constant(0)
  %copy = u32[]{:T(128)} copy(%zero)
  %start = (f32[4,8]{1,0:T(8,128)}, u32[]{:T(128)}) tuple(%v, %copy)
  %ring = (f32[4,8]{1,0}, u32[]{:T(128)}) while(%start), condition=%ring_condition, body=%ring_body
  %w = f32[4,8]{1,0} get-tuple-element(%ring), index=0
  %y = s32[]{:T(128)} get-tuple-element(%u), index=1
  %one = s32[]{:T(128)} constant(1)
  %z = s32[]{:T(128)} add(%y, %one)
  ROOT %o = (f32[4,8]{1,0}, s32[]{:T(128)}) tuple(%w, %z)
}
ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = s32[]{:T(128)} constant(0)
  %e = (f32[4,8]{1,0}, s32[]{:T(128)}) tuple(%a, %b)
  %f = (f32[4,8]{1,0}, s32[]{:T(128)}) while(%e), condition=%layer_condition, body=%layer_body
  ROOT %g = f32[4,8]{1,0} get-tuple-element(%f), index=0
}
"""


def test_a_ring_inside_the_layers_sends_in_every_step_of_each_layer():
    (one,) = collectives(parse_hlo(RING), [0] * 4)
    assert (one.kind, one.runs, one.sent) == ("collective-permute", 2 * 2, 4 * 8 * 4)


def test_a_ring_over_devices_of_two_slices_is_marked():
    assert not collectives(parse_hlo(RING), [0, 0, 0, 0])[0].crosses
    assert collectives(parse_hlo(RING), [0, 0, 1, 1])[0].crosses


GATHER = """
%start (p: f32[2,8]) -> f32[8,8] {
  %p = f32[2,8]{1,0} parameter(0)
  ROOT %ag.1 = f32[8,8]{1,0} all-gather(%p), channel_id=7, replica_groups=GROUPS, dimensions={0}
}
%finish (q: f32[2,8]) -> f32[8,8] {
  %q = f32[2,8]{1,0} parameter(0)
  ROOT %ag.2 = f32[8,8]{1,0} all-gather(%q), channel_id=7, replica_groups=GROUPS, dimensions={0}
}
ENTRY %main (a: f32[2,8]) -> f32[8,8] {
  %a = f32[2,8]{1,0} parameter(0)
  %b = f32[8,8]{1,0} fusion(%a), kind=kCustom, calls=%start
  ROOT %c = f32[8,8]{1,0} fusion(%a), kind=kCustom, calls=%finish
}
"""


@pytest.mark.parametrize(
    ("groups", "crosses"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", False),
        ("[2,4]<=[8]", False),
        ("[2,4]<=[4,2]T(1,0)", True),
        ("mesh['a'=2,'b'=4] {'b'}", False),
        ("mesh['a'=4,'b'=2] {'a'}", True),
    ],
)
def test_a_gather_in_several_kernels_is_counted_once_with_its_groups(groups, crosses):
    module = parse_hlo(GATHER.replace("GROUPS", groups))
    (one,) = collectives(module, [0] * 4 + [1] * 4)
    assert (one.kind, one.runs, one.sent) == ("all-gather", 1, 8 * 8 * 4 * 3 / 4)
    assert one.crosses is crosses


@pytest.mark.parametrize(
    ("operation", "sent"),
    [("all-reduce", 2 * 256 * 3 / 4), ("reduce-scatter", 256 * 3), ("all-to-all", 256 * 3 / 4)],
)
def test_the_bytes_of_a_collective_are_those_of_the_ring_algorithm(operation, sent):
    text = f"""
ENTRY %main (a: f32[8,8]) -> f32[8,8] {{
  %a = f32[8,8]{{1,0}} parameter(0)
  ROOT %c = f32[8,8]{{1,0}} {operation}(%a), replica_groups={{{{0,1,2,3}}}}, to_apply=%add
}}
"""
    (one,) = collectives(parse_hlo(text), [0] * 4)
    assert one.sent == sent


def test_host_transfers_between_slices_are_counted():
    text = """
ENTRY %main (a: bf16[8,8]) -> token[] {
  %a = bf16[8,8]{1,0} parameter(0)
  %t = token[] after-all()
  %s = (bf16[8,8]{1,0}, u32[], token[]) send(%a, %t), channel_id=2, is_host_transfer=true, \
frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  ROOT %d = token[] send-done(%s)
}
"""
    (one,) = collectives(parse_hlo(text), [0, 1])
    assert (one.kind, one.sent, one.crosses) == ("between slices", 8 * 8 * 2, True)


def test_all_arrays_of_one_operation_are_counted():
    text = """
ENTRY %main (a: f32[8,8], b: f32[4]) -> (f32[8,8], f32[4]) {
  %a = f32[8,8]{1,0} parameter(0)
  %b = f32[4]{0} parameter(1)
  ROOT %c = (f32[8,8]{1,0}, f32[4]{0}) all-reduce(%a, %b), replica_groups={{0,1}}, to_apply=%add
}
"""
    assert collectives(parse_hlo(text), [0] * 2)[0].sent == 256 + 16


def test_reading_slices_of_a_stack_counts_the_slices():
    layer, stack = 32 * 32 * 4, 50 * 32 * 32 * 4
    module = parse_hlo(compiled(layers, (8, 32), (50, 32, 32)).as_text())
    assert 50 * layer <= hbm_bytes(module) < 10 * stack


SPLASH = """
ENTRY %main (q: bf16[2,4,1024,96], k: bf16[2,4,1024,96]) -> bf16[2,4,1024,96] {
  %t = s8[1,2,2]{2,1,0} constant({...})
  %q = bf16[2,4,1024,96]{3,2,1,0} parameter(0)
  %k = bf16[2,4,1024,96]{3,2,1,0} parameter(1)
  %splash_mha_fwd_x.1 = (f32[2,512,96]{2,1,0}, bf16[2,4,1024,96]{3,2,1,0}) custom-call(%t, %q, %k, \
%k), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"mask": "static"
}}, metadata={op_name="attention"}
  ROOT %splash_mha_dkv_x.1 = bf16[2,4,1024,96]{3,2,1,0} custom-call(%t, %q, %k), \
custom_call_target="tpu_custom_call"
}
"""


def test_attention_kernels_count_pairs_that_are_not_masked_out():
    mask = Layout((64, 16, 48), (16, 16)).full_mask
    assert (mask.num_queries, mask.num_keys) == (897, 897)
    module = parse_hlo(SPLASH)
    products = 2 + 4
    assert matrix_flops(module, [mask]) == 2 * products * 2 * 4 * mask.num_pairs() * 96
    assert not unknown_kernels(module, [mask])


def test_attention_of_a_batch_of_one_has_no_batch_dimension():
    mask = Layout((64, 16, 48), (16, 16)).full_mask
    module = parse_hlo(SPLASH.replace("bf16[2,4,1024,96]{3,2,1,0}", "bf16[4,1024,96]{2,1,0}"))
    assert matrix_flops(module, [mask]) == 2 * (2 + 4) * 4 * mask.num_pairs() * 96
    assert not unknown_kernels(module, [mask])


def test_unknown_kernels_are_listed():
    module = parse_hlo(SPLASH)
    longer = Layout((64, 16, 48), (32, 32)).full_mask
    for masks in ([], [longer]):
        assert matrix_flops(module, masks) == 0
        assert unknown_kernels(module, masks) == ("splash_mha_fwd_x.1", "splash_mha_dkv_x.1")


def test_a_slice_in_a_nested_fusion_counts_the_slice():
    text = """
%inner (p: f32[50,8], i: s32[]) -> f32[1,8] {
  %p = f32[50,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %d = f32[1,8]{1,0} dynamic-slice(%p, %i, %z), dynamic_slice_sizes={1,8}
}
%outer (q: f32[50,8], j: s32[]) -> f32[1,8] {
  %q = f32[50,8]{1,0} parameter(0)
  %j = s32[] parameter(1)
  %f = f32[1,8]{1,0} fusion(%q, %j), kind=kLoop, calls=%inner
  ROOT %n = f32[1,8]{1,0} negate(%f)
}
ENTRY %main (a: f32[50,8], k: s32[]) -> f32[1,8] {
  %a = f32[50,8]{1,0} parameter(0)
  %k = s32[] parameter(1)
  ROOT %r = f32[1,8]{1,0} fusion(%a, %k), kind=kLoop, calls=%outer
}
"""
    assert hbm_bytes(parse_hlo(text)) == 8 * 4 + 8 * 4 + 4


def test_on_chip_memory_is_not_counted():
    text = """
ENTRY %main (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  %b = f32[8,8]{1,0:T(8,128)S(1)} negate(%a)
  ROOT %c = f32[8,8]{1,0} negate(%b)
}
"""
    assert hbm_bytes(parse_hlo(text)) == 2 * 8 * 8 * 4


def test_shapes_of_tuples_and_small_types_are_parsed():
    arrays = parse_shape("(bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, pred[], f8e4m3fn[5], s4[6], s64[1])")
    assert [array.bytes for array in arrays] == [12, 1, 5, 6, 8]
    assert [array.on_chip for array in arrays] == [True, False, False, False, False]
