"""`python -m fastcnn.verification.cuda_check --rehearse`; prints what it wrote."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

from fastcnn.verification import cuda_check

sys.setswitchinterval(1e-5)
path = Path(sys.argv[1])
sys.argv[1:] = ["--rehearse", "--json", str(path)]
with redirect_stdout(sys.stderr):
    status = cuda_check.main()
print(path.read_text())
sys.exit(status)
