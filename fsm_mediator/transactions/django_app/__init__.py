"""A Django app that creates the tables of `Transactions`. Add it to ``INSTALLED_APPS``; run ``manage.py migrate``."""
