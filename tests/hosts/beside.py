"""Lets this environment see the packages of the interpreter DGL_MAIN_PYTHON, behind its own.

Spark's workers run the networks in the host's own environment, and one copy of torch (5 GB) is enough.
"""

import os
import subprocess
import sysconfig
from pathlib import Path

code = "import sysconfig; print(sysconfig.get_path('purelib'))"
others = subprocess.run([os.environ["DGL_MAIN_PYTHON"], "-c", code], check=True, capture_output=True, text=True).stdout
Path(sysconfig.get_path("purelib"), "zz_beside.pth").write_text(others)
