module github.com/xfrmfw/xfrmfw

go 1.24.0
