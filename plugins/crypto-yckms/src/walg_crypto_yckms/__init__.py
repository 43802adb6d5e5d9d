"""Encryption under keys of Yandex Cloud KMS."""
