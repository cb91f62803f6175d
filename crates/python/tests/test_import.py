"""What an import of the package brings with it."""

import subprocess
import sys
import unittest


class Importing(unittest.TestCase):
    def test_numpy_is_imported_with_the_first_array(self):
        program = "import sys, sardonyx; sys.exit('numpy' in sys.modules or 'asyncio' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", program]).returncode, 0)

    def test_packages_that_few_programs_need(self):
        """Nobody looks for them, installed or not."""
        program = """if True:
            import sys

            class Asked:
                names = set()

                def find_spec(self, name, path=None, target=None):
                    self.names.add(name.partition(".")[0])

            sys.meta_path.insert(0, Asked())
            import sardonyx, sardonyx.backend, sardonyx.convert, sardonyx.onnxruntime
            found = Asked.names & {"ray", "torch", "tensorflow", "jax", "paddle", "catboost", "dask", "pyspark"}
            assert "sardonyx" in Asked.names and not found, found
        """
        subprocess.run([sys.executable, "-c", program], check=True)

    def test_a_backend_without_onnx(self):
        program = "import sys; sys.modules['onnx'] = None; import sardonyx.backend"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("needs a package: pip install onnx", done.stderr)


if __name__ == "__main__":
    unittest.main()
