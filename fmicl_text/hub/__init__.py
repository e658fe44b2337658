"""Publishing a run, or a lone encoder, on the Hugging Face Hub: its files, its model card, the checks, the upload.

:mod:`.source` reads what is published, :mod:`.stage` collects its files and :mod:`.exports` those of exports,
:mod:`.card` writes the card, :mod:`.check`, :mod:`.own_code` and :mod:`.private` keep pickles, code, paths and secrets
out, and only :mod:`.remote` talks to the Hub. Modules here import ``runs`` and what is below.
"""

from fmicl_text.hub.own_code import check_no_own_code
from fmicl_text.hub.publishing import publish
from fmicl_text.hub.remote import Published, check_access, check_target
from fmicl_text.hub.stage import check_adapted_base

__all__ = ["Published", "check_access", "check_adapted_base", "check_no_own_code", "check_target", "publish"]
