"""The same saga in a web app on FastAPI, on Flask and on Django; docs/embedding.md tells what to mind."""
