"""A Django app that makes the tables of `Transactions`: add it to ``INSTALLED_APPS``, and run ``manage.py migrate``."""
