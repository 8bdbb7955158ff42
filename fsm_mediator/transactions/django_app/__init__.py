"""A Django app that creates the tables of `Transactions`.

Add the app to ``INSTALLED_APPS``, and run ``manage.py migrate``.
"""
