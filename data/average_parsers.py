"""Averages the parameters of two instruction parsers, of which one was trained on from the other.

python data/average_parsers.py FIRST SECOND --share 0.35 -o OUT
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from build_parser import write_parser

from ditfuse_jax.parser.parse import VOCABULARY, read_parser


def main() -> None:
    parser = argparse.ArgumentParser(description="Averages the parameters of two parsers.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="weight of the second, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    config, first = read_parser(args.first)
    other, second = read_parser(args.second)
    words = [
        (folder / VOCABULARY).read_text(encoding="utf-8") for folder in (args.first, args.second)
    ]
    if config != other or words[0] != words[1]:
        parser.error("the parsers have different sizes or vocabularies")

    def average(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return (1 - args.share) * one + args.share * two

    vocabulary = [word for word in words[0].split("\n") if word]
    write_parser(args.output, config, vocabulary, jax.tree.map(average, first, second))


if __name__ == "__main__":
    main()
