"""Sagas in web apps: one module for each framework, and what they share in ``http``. Import the module you need."""
