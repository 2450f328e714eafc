"""Lets SAELens run Binary Autoencoders: importing this module registers the architecture `bae`.

    import binary_autoencoder_sae_lens
    from sae_lens import SAE

    sae = SAE.load_from_disk("run")  # a folder that `bae train` or `model.save` wrote
    h = sae.encode(x)                # 0 and 1, of the model's dtype

Needs SAELens 6. One file, to be copied or put on PYTHONPATH.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from sae_lens import SAE, SAEConfig, register_sae_class
from torch import nn


@dataclass
class BinaryAutoencoderConfig(SAEConfig):
    """What SAELens needs of `cfg.json`. Rows are encoded as they are, or layer-normalised (`normalize_activations`)."""

    apply_b_dec_to_input: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    """The settings of the training, as `cfg.json` has them."""

    @classmethod
    def architecture(cls) -> str:
        return "bae"


class BinaryAutoencoder(SAE[BinaryAutoencoderConfig]):
    """h = [x W_enc + b_enc > 0], x̂ = h W_dec + b_dec; `W_enc` [d_in, d_sae], `W_dec` [d_sae, d_in]."""

    b_enc: nn.Parameter

    def initialize_weights(self) -> None:
        super().initialize_weights()
        self.b_enc = nn.Parameter(torch.zeros(self.cfg.d_sae, dtype=self.dtype, device=self.device))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states [..., d_in] to codes [..., d_sae] of 0 and 1. ValueError if a pre-activation is NaN."""
        hidden_pre = self.hook_sae_acts_pre(self.process_sae_in(x) @ self.W_enc + self.b_enc)
        if hidden_pre.isnan().any():
            raise ValueError("a pre-activation is NaN, which is no bit: look for NaN or infinite values in x")
        estimator = self.cfg.training.get("estimator", {})
        # the one estimator whose forward pass steps elsewhere than at 0
        on = hidden_pre.remainder(2) < 1 if estimator.get("name") == "squarewave" else hidden_pre > 0
        return self.hook_sae_acts_post(on.to(self.dtype))

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Codes [..., d_sae] to reconstructions [..., d_in], brought back to the scale of the rows encoded last where
        those were layer-normalised."""
        sae_out = self.hook_sae_recons(feature_acts @ self.W_dec + self.b_dec)
        return self.reshape_fn_out(self.run_time_activation_norm_fn_out(sae_out), self.d_head)

    def fold_W_dec_norm(self) -> None:
        raise NotImplementedError(
            "a bit has no size that could take up the norm of its decoder row: load without folding"
        )


register_sae_class("bae", BinaryAutoencoder, BinaryAutoencoderConfig)
