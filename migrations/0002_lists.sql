DROP INDEX `preferences_axis`;--> statement-breakpoint
CREATE INDEX `preferences_created` ON `preferences` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `preferences_axis` ON `preferences` (`axis`,`created_at`,`id`);--> statement-breakpoint
DROP INDEX `scores_created`;--> statement-breakpoint
CREATE INDEX `scores_created` ON `scores` (`created_at`,`id`);--> statement-breakpoint
ALTER TABLE `runs` ADD `tags` text DEFAULT '[]' NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `notes` text DEFAULT '' NOT NULL;--> statement-breakpoint
CREATE INDEX `runs_created` ON `runs` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `runs_kind` ON `runs` (`kind`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `runs_state` ON `runs` (`state`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `runs_parent` ON `runs` (`parent`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `files_created` ON `files` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `judges_created` ON `judges` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `models_created` ON `models` (`created_at`,`id`);