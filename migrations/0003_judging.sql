CREATE TABLE `audits` (
	`id` text PRIMARY KEY NOT NULL,
	`judge` text NOT NULL,
	`version` text NOT NULL,
	`prompt_version` text NOT NULL,
	`axis` text NOT NULL,
	`data_hash` text NOT NULL,
	`run` text,
	`figures` text NOT NULL,
	`objections` text NOT NULL,
	`probabilities` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `audits_judge` ON `audits` (`version`,`prompt_version`,`axis`);--> statement-breakpoint
CREATE TABLE `judge_answers` (
	`key` text PRIMARY KEY NOT NULL,
	`answer` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
ALTER TABLE `judges` ADD `settings` text;