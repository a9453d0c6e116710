"""What leaves a host in a capture or a support bundle: by allow-list, for each file the keys that a row reads.

Everything else is replaced by its kind and length. Identifiers that must stay comparable get pseudonyms.
"""

from tuneagent.share.redaction.pseudonyms import Pseudonyms
from tuneagent.share.redaction.redactor import Asked, Redactor

__all__ = ["Asked", "Pseudonyms", "Redactor"]
