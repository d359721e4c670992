"""The `kinograph` command as it is installed beside this Python, for processes of their own."""

import sys
from pathlib import Path

KINOGRAPH = str(Path(sys.executable).with_name("kinograph"))
