"""Write completions/."""

from __future__ import annotations

from tools.completions import files

for path, text in files().items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
