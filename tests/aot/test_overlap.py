"""Collectives that run while products are computed."""

from ditfuse_jax.aot.overlap import Overlap, overlap

HLO = """HloModule step, is_scheduled=true

%fused_computation.1 (p: f32[2]) -> f32[4] {
  %p = f32[2]{0} parameter(0)
  ROOT %all-gather.9 = f32[4]{0} all-gather(%p), dimensions={0}
}

%body (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %collective-permute-start.1 = (f32[2]{0}, f32[2]{0}) collective-permute-start(%a), channel_id=1
  %collective-permute-start.2 = (f32[2]{0}, f32[2]{0}) collective-permute-start(%a), channel_id=2
  %add.1 = f32[2]{0} add(%a, %a)
  %collective-permute-done.2 = f32[2]{0} collective-permute-done(%collective-permute-start.2)
  %fusion.1 = f32[2]{0} fusion(%a, %a), kind=kOutput, calls=%fused_computation.2
  ROOT %collective-permute-done.1 = f32[2]{0} collective-permute-done(%collective-permute-start.1)
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %all-gather-start.1 = (f32[2]{0}, f32[4]{0}) all-gather-start(%a), dimensions={0}
  %kernel = f32[2]{0} custom-call(%a), custom_call_target="tpu_custom_call"
  %all-gather-done.1 = f32[4]{0} all-gather-done(%all-gather-start.1)
  %dot.1 = f32[2]{0} dot(%a, %a)
  ROOT %all-reduce.1 = f32[2]{0} all-reduce(%dot.1), to_apply=%add
}
"""


def test_only_collectives_with_a_product_between_start_and_end_overlap():
    assert overlap(HLO) == Overlap(asynchronous=3, during_products=2, synchronous=1)


def test_a_program_for_one_device_has_none():
    assert overlap(
        "ENTRY %main (a: f32[2]) -> f32[2] {\n  ROOT %a = f32[2]{0} parameter(0)\n}\n"
    ) == (Overlap(0, 0, 0))
