"""How many calls the fuzz test makes, and which.

The seed is the day's number: seeds rotate, and whoever runs the tests of one commit on one day sees
the same. FASTCNN_FUZZ_CASES and FASTCNN_FUZZ_SEED ask for others.
"""

import os
from datetime import date

CASES = int(os.environ.get("FASTCNN_FUZZ_CASES", "300"))
SEED = int(os.environ.get("FASTCNN_FUZZ_SEED", date.today().toordinal()))
