"""Write src/manactl/schemas/."""

from __future__ import annotations

from tools.schemas import files

for path, text in files().items():
    path.write_text(text)
