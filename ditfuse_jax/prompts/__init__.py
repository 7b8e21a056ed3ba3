"""Prompts: tags, chat frame, placeholders, instruction pools, text slots and tokenizers."""

from ditfuse_jax.prompts.pools import (
    FORMS,
    GRANULARITIES,
    INSTRUCTION_POOLS,
    SPLITS,
    Instruction,
    InstructionPool,
    instructions,
    read_pool,
    read_pools,
)
from ditfuse_jax.prompts.records import Record, read_records, write_records
from ditfuse_jax.prompts.slots import PackedText, TextSlots
from ditfuse_jax.prompts.template import (
    CONDITION_DROPPED,
    MAX_IMAGES,
    SPECIAL_TOKENS,
    SUBTASKS,
    SplitPrompt,
    as_prompt,
    frame,
    has_placeholders,
    image_only_prompt,
    join_instructions,
    split_prompt,
    task_prompt,
    without_tags,
)
from ditfuse_jax.prompts.tokenizer import EncodedPrompt, encode_prompt, load_tokenizer

__all__ = [
    "CONDITION_DROPPED",
    "FORMS",
    "GRANULARITIES",
    "INSTRUCTION_POOLS",
    "MAX_IMAGES",
    "SPECIAL_TOKENS",
    "SPLITS",
    "SUBTASKS",
    "EncodedPrompt",
    "Instruction",
    "InstructionPool",
    "PackedText",
    "Record",
    "SplitPrompt",
    "TextSlots",
    "as_prompt",
    "encode_prompt",
    "frame",
    "has_placeholders",
    "image_only_prompt",
    "instructions",
    "join_instructions",
    "load_tokenizer",
    "read_pool",
    "read_pools",
    "read_records",
    "split_prompt",
    "task_prompt",
    "without_tags",
    "write_records",
]
