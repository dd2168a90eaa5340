"""Only `bash tests/long applications` collects the tests of this folder: the applications are not installed elsewhere.

The files of programs/ are never collected, because each of them imports its application.
"""

import os

collect_ignore_glob = ["programs/*"] if os.environ.get("APPLICATIONS") else ["*"]
