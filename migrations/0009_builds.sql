ALTER TABLE `scorers` ADD `version` text;--> statement-breakpoint
ALTER TABLE `scorers` ADD `files` text;