"""The command ``manage.py sagas``."""
