"""`rag sources`: assembles its commands. Each is in the module of its name."""

from __future__ import annotations

from rag_assets.cli import apply, credentials, source_removal, source_views, sources

app = sources.app
app.command("remove")(source_removal.remove)
app.command("list")(source_views.list_)
app.command("show")(source_views.show)
app.command("types")(source_views.types)
app.command("apply")(apply.apply)
app.command("credentials")(credentials.set_credentials)
app.command("rotate-credentials")(credentials.rotate_credentials)
