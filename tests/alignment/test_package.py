import subprocess
import sys

import pytest

import ipa_core.alignment as alignment


@pytest.mark.parametrize("name", alignment.__all__)
def test_public_names_exist(name):
    assert getattr(alignment, name).__module__.startswith("ipa_core.alignment.")


def test_importing_the_package_loads_no_torch():
    check = "import sys, ipa_core.alignment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
