"""Putting a run, or an encoder by itself, on the Hugging Face Hub: what is published, its card, checks and upload."""

from fmicl_text.hub.publishing import publish
from fmicl_text.hub.remote import Published, check_access

__all__ = ["Published", "check_access", "publish"]
