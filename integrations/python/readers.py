"""How each library reads a model's folder and runs it: `(encode, reconstruct)`, from rows [n, d_in] to activations
[n, d_sae] and to reconstructions [n, d_out]."""

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

# sparsify's decoder on a CPU: its Triton kernel runs on GPUs only
os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
# dictionary_learning imports nnsight, to read activations out of language models, which nothing here does; the release
# that it pins needs packages that no longer go together
sys.modules.setdefault("nnsight", types.SimpleNamespace(LanguageModel=None))

# ruff: noqa: E402
import torch
from dictionary_learning.dictionary import AutoEncoder
from dictionary_learning.utils import load_dictionary
from sae_lens import SAE, TrainingSAE
from sparsify import SparseCoder

import binary_autoencoder_sae_lens  # noqa: F401  it registers `bae`

Read = tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]


def sae_lens(folder: Path) -> Read:
    sae = SAE.load_from_disk(folder, dtype="float32").eval()
    return sae.encode, sae


def sae_lens_checkpoint(folder: Path) -> Read:
    """A model in training: some architectures have no other form under their name."""
    sae = TrainingSAE.load_from_disk(folder, dtype="float32").eval()
    return sae.encode, sae


def sparsify(folder: Path) -> Read:
    coder = SparseCoder.load_from_disk(folder).float()

    def encode(x: torch.Tensor) -> torch.Tensor:
        code = coder.encode(x)
        return torch.zeros(len(x), coder.num_latents).scatter_(1, code.top_indices, code.top_acts)

    return encode, lambda x: coder(x).sae_out


def dictionary_learning(folder: Path) -> Read:
    loaded, config = load_dictionary(str(folder), "cpu")
    if type(loaded) is AutoEncoder:
        # `load_dictionary` has moved the norms of the decoder's vectors into the encoder
        loaded = AutoEncoder.from_pretrained(folder / "ae.pt", normalize_decoder=False)
    return loaded.encode, loaded


def steady(encode: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Which rows lie so far from every decision that rounding moves none: [n] bool."""
    return ((encode(x * (1 + 2e-5)) != 0) == (encode(x) != 0)).all(1)
