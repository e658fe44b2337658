"""An encoder that is loaded once, for several trainings that begin with it."""

from __future__ import annotations

import copy

import torch
from sentence_transformers import SentenceTransformer

from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import load_encoder


class KeptEncoder:
    """Loads encoders as :func:`~fmicl_text.encoders.text.load_encoder` does, and keeps the last one, on the CPU.

    Who asks for it again gets a copy, which is what loading would give, bit by bit, and leaves torch's generator where
    loading would. Weights that loading draws (of a new encoder, a head, an adapter, a layer that the files lack) depend
    on the state of the generator too: from another state, such an encoder is loaded again.
    """

    _section: ModelSection | None = None
    _encoder: SentenceTransformer
    _device: torch.device
    _before: torch.Tensor  # the generator's state when it was loaded, and where that left it
    _after: torch.Tensor
    _draws: bool

    def load(self, section: ModelSection) -> SentenceTransformer:
        """Return the encoder that a recipe describes, for the caller to change.

        Raises:
            InputError: As :func:`~fmicl_text.encoders.text.load_encoder`.
        """
        state = torch.get_rng_state()
        if section != self._section or (self._draws and not torch.equal(state, self._before)):
            self._section = None
            encoder = load_encoder(section)
            self._before, self._after = state, torch.get_rng_state()
            self._draws = not torch.equal(self._before, self._after)
            self._device = encoder.device
            self._encoder = encoder.cpu()
            self._section = section
        if self._draws:
            torch.set_rng_state(self._after)
        return copy.deepcopy(self._encoder).to(self._device)
