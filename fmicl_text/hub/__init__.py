"""Publishing a run, or a lone encoder, on the Hugging Face Hub: its files, its model card, the checks, the upload."""

from fmicl_text.hub.publishing import publish
from fmicl_text.hub.remote import Published, check_access

__all__ = ["Published", "check_access", "publish"]
