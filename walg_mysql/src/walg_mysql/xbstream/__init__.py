"""The xbstream format of xtrabackup and mariabackup, read and written in process."""
