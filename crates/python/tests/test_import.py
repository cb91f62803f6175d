"""What an import of the package brings with it."""

import subprocess
import sys
import unittest


class Importing(unittest.TestCase):
    def test_numpy_is_imported_with_the_first_array(self):
        program = "import sys, sardonyx; sys.exit('numpy' in sys.modules or 'asyncio' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", program]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
