#!/usr/bin/env python3
"""walkthrough.py PAGE FOLDER HTTP GRPC METRICS: runs the blocks of a page in FOLDER, and compares what they print with the text blocks that follow.

Blocks of sh share one shell. A block of python is kept as the file that its first line names, and run. In a text block, `...` stands for
anything. The ports 8000, 8001 and 8002 of the page become those given.
"""
import os
import re
import subprocess
import sys

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Each block that runs: its language, text and line, and what it is to print."""
    found = []
    for match in BLOCK.finditer(page):
        language, text = match[1], match[2]
        if language == "text":
            assert found and found[-1][3] is None, f"line {page[: match.start()].count(chr(10)) + 1}: no block printed this"
            found[-1][3] = text
        elif language in ("sh", "python"):
            found.append([language, text, page[: match.start()].count("\n") + 1, None])
        else:
            raise AssertionError(f"a block of {language} is not run")
    return found


def pattern(expected):
    parts = (re.escape(part) for part in expected.strip().split("..."))
    return re.compile(r"\s*" + ".*?".join(parts) + r"\s*", re.DOTALL)


def main():
    page, folder, *ports = sys.argv[1:]
    with open(page) as file:
        found = blocks(file.read())
    for from_, to in zip(("8000", "8001", "8002"), ports):
        for block in found:
            block[1] = re.sub(rf"(?<=localhost:){from_}\b", to, block[1])
    shell = subprocess.Popen(["bash"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(text):
        # What a block leaves behind it (variables, the server) is there for the next.
        shell.stdin.write(f"{{ set -e\n{text}\n}} < /dev/null\necho; echo END-OF-BLOCK\n")
        shell.stdin.flush()
        lines = []
        for line in shell.stdout:
            if line == "END-OF-BLOCK\n":
                return "".join(lines)
            lines.append(line)
        sys.exit(f"{page}: a command failed in the block of line {at}:\n{text}\n-- it printed:\n{''.join(lines)}")

    for language, text, at, expected in found:
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"line {at}: the first line of a Python block names its file, as in `# export.py`"
            with open(os.path.join(folder, name[1]), "w") as file:
                file.write(text)
            text = f"python {name[1]}"
        printed = run(text)
        if expected is not None and not pattern(expected).fullmatch(printed):
            shell.stdin.close()
            sys.exit(f"{page}:{at}: expected\n{expected}-- and it printed\n{printed}")
        print(f"line {at}: ok", flush=True)
    shell.stdin.close()
    sys.exit(shell.wait())


if __name__ == "__main__":
    main()
