"""Writes a random "OmniGen" folder in the original format, for tests and measurements.

    python tests/omnigen_folder.py DIR --layers 2 --hidden 64
    python tests/omnigen_folder.py DIR --full-shape        (3.8 B parameters, 7.6 GB in bf16)

config.json (Phi-3 with LongRoPE), model.safetensors under the original names or a sharded index, a
Llama tokenizer and `vae/`.  The numbers mean nothing, the shapes and names everything.
"""

import argparse
import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers

from ditfuse_jax.model.autoencoder import AutoencoderConfig
from ditfuse_jax.prompts import INSTRUCTION_POOLS, frame, task_prompt
from ditfuse_jax.weights.autoencoder import abstract_autoencoder, autoencoder_tensors

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}

AUTOENCODER = AutoencoderConfig(block_channels=(8, 8, 16, 16), norm_groups=4)

CHAT_TOKENS = ("<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>")
OMNIGEN_TOKENS = ("<|diffusion|>", "<img>", "</img>", *(f"<|image_{k}|>" for k in range(1, 5)))


def tokenizer(image_tokens: bool = True, size: int = 900) -> Tokenizer:
    """A tokenizer of the class OmniGen has: Llama's rules over a small vocabulary.

    SentencePiece's prefix space, byte fallback, BOS in front; the chat tokens swallow the white
    space after them, as Phi-3's do.

    Args:
      image_tokens: whether `<img>` and `</img>` are tokens or plain text.
      size: of the vocabulary without added tokens.
    """
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    pools = [INSTRUCTION_POOLS.find(group) for group in INSTRUCTION_POOLS]
    prompts = [frame(task_prompt(p.task, p.tag, s)) for p in pools for s in p.sentences]
    made.train_from_iterator(prompts, trainer)
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    made.add_special_tokens([AddedToken(token, rstrip=True) for token in CHAT_TOKENS])
    made.add_special_tokens(list(OMNIGEN_TOKENS if image_tokens else OMNIGEN_TOKENS[:1]))
    return made


def write_tokenizer(folder: Path, image_tokens: bool = True) -> int:
    """Writes the tokenizer's files; returns the number of tokens."""
    made = tokenizer(image_tokens)
    (folder / "tokenizer.json").write_text(made.to_str(), encoding="utf-8")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    names["pad_token"] = "<|endoftext|>"
    config = names | {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    return made.get_vocab_size()


def phi3(
    hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, vocabulary: int
) -> dict[str, object]:
    """The config of a model of this size."""
    half = hidden // heads // 2
    return {
        "model_type": "phi3",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 4096,
        "max_position_embeddings": 131072,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1 + 0.5 * i / half for i in range(half)],
            "long_factor": [1 + 30 * i / half for i in range(half)],
        },
        "tie_word_embeddings": False,
    }


def tensor_shapes(config: dict, positions: int = 192) -> dict[str, tuple[int, ...]]:
    """Original names and shapes."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dim = width // heads
    shapes: dict[str, tuple[int, ...]] = {
        "llm.embed_tokens.weight": (config["vocab_size"], width),
        "llm.norm.weight": (width,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
        "final_layer.linear.weight": (16, width),
        "final_layer.linear.bias": (16,),
        "pos_embed": (1, positions**2, width),
    }
    for front in ("x_embedder", "input_x_embedder"):
        shapes[f"{front}.proj.weight"] = (width, 4, 2, 2)
        shapes[f"{front}.proj.bias"] = (width,)
    for time in ("time_token", "t_embedder"):
        shapes[f"{time}.mlp.0.weight"] = (width, 256)
        shapes[f"{time}.mlp.2.weight"] = (width, width)
        shapes[f"{time}.mlp.0.bias"] = shapes[f"{time}.mlp.2.bias"] = (width,)
    for number in range(config["num_hidden_layers"]):
        layer = f"llm.layers.{number}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.post_attention_layernorm.weight": (width,),
            f"{layer}.self_attn.qkv_proj.weight": ((heads + 2 * kv_heads) * dim, width),
            f"{layer}.self_attn.o_proj.weight": (width, heads * dim),
            f"{layer}.mlp.gate_up_proj.weight": (2 * inner, width),
            f"{layer}.mlp.down_proj.weight": (width, inner),
        }
    return shapes


def positions_table(width: int, side: int) -> np.ndarray:
    """The original's sin-cos table, (1, side * side, width) float32."""
    omega = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width / 4))
    grid = np.arange(side, dtype=np.float32) / (side / 64)
    columns, rows = np.meshgrid(grid, grid)

    def encode(position: np.ndarray) -> np.ndarray:
        angles = np.einsum("m,d->md", position.reshape(-1), omega)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    return np.concatenate([encode(columns), encode(rows)], axis=1)[None].astype(np.float32)


def random_tensor(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Numbers under which activations stay of order one: norms around one, the rest small."""
    if name == "pos_embed":
        return positions_table(shape[-1], math.isqrt(shape[1]))
    values = random.standard_normal(shape, np.float32)
    if "norm" in name:
        return 1 + 0.1 * values
    return values * (0.3 if name.startswith("final_layer.linear") else 0.05)


def write(
    folder: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 4,
    mlp: int = 128,
    dtype: str = "float32",
    shards: int = 1,
    positions: int = 192,
    seed: int = 0,
) -> None:
    """Writes a small folder."""
    folder.mkdir(parents=True)
    vocabulary = -(-write_tokenizer(folder) // 64) * 64
    config = phi3(hidden, layers, heads, kv_heads, mlp, vocabulary)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    random = np.random.default_rng(seed)
    tensors = {
        name: random_tensor(name, shape, random).astype(DTYPES[dtype])
        for name, shape in tensor_shapes(config, positions).items()
    }
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    else:
        where = {}
        for shard in range(shards):
            file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            held = names[shard::shards]
            save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
            where |= dict.fromkeys(held, file)
        index = {"metadata": {}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_autoencoder(folder / "vae", random)


def write_autoencoder(folder: Path, random: np.random.Generator) -> None:
    """A small autoencoder in diffusers' layout."""
    folder.mkdir()
    channels = AUTOENCODER.block_channels
    config = {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": list(channels),
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": AUTOENCODER.latent_channels,
        "layers_per_block": AUTOENCODER.layers_per_block,
        "norm_num_groups": AUTOENCODER.norm_groups,
        "scaling_factor": AUTOENCODER.scaling_factor,
    }
    (folder / "config.json").write_text(json.dumps(config))
    _, shapes = abstract_autoencoder(AUTOENCODER)
    empty = _zeros(shapes)
    tensors = {
        name: random_tensor(name, value.shape, random) * (1 if "norm" in name else 4)
        for name, value in autoencoder_tensors(empty).items()
    }
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")


def _zeros(tree):
    return {
        key: _zeros(value) if isinstance(value, dict) else np.zeros(value.shape, np.float32)
        for key, value in tree.items()
    }


def write_full_shape(folder: Path) -> None:
    """OmniGen-v1's real shape in bf16, streamed: one tensor in memory at a time."""
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    config = phi3(3072, 32, 32, 32, 8192, 32064)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shapes = tensor_shapes(config)
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for number, values in enumerate(_full_tensors(shapes), start=1):
            file.write(values.view(np.uint8).data)
            print(f"\r{number} of {len(shapes)} tensors", end="", file=sys.stderr)
    print(file=sys.stderr)


def _full_tensors(shapes: dict[str, tuple[int, ...]]) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    # Finite bf16 numbers of magnitude 2^-7 to 2^-5: random sign and fraction, few exponents.
    bits = random.integers(0, 2**16, 1 << 24, dtype=np.uint16)
    block = (bits & 0x80FF) | 0x3C00
    for number, (name, shape) in enumerate(shapes.items()):
        if name == "pos_embed":
            yield positions_table(shape[-1], math.isqrt(shape[1])).astype(ml_dtypes.bfloat16)
            continue
        count = math.prod(shape)
        repeated = np.resize(np.roll(block, 7919 * number), count)
        if "norm" in name:
            repeated[:] = 0x3F80  # one
        yield repeated.view(ml_dtypes.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    for name, default in (
        ("hidden", 64),
        ("layers", 2),
        ("heads", 4),
        ("kv-heads", 4),
        ("mlp", 128),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--full-shape", action="store_true")
    options = vars(parser.parse_args())
    folder = options.pop("folder")
    if options.pop("full_shape"):
        write_full_shape(folder)
    else:
        write(folder, **options)


if __name__ == "__main__":
    main()
