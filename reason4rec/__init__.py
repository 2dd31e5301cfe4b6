"""Reason4Rec: a rating is predicted by three experts that reason first."""

import logging

# At each start on a CPU, bitsandbytes warns of a kernel package that it does without.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
